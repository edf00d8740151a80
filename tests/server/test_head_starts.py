"""Which new sessions count as live although their first audio comes all at once, in simulated time."""

from __future__ import annotations

import pytest

from streaming_asr.server.head_starts import AT_ADDRESS, AT_ADDRESS_PER_S, HeadStarts


def test_an_address_gets_some_at_once_and_then_a_few_a_second() -> None:
    starts = HeadStarts()
    taken = sum(starts.take("10.0.0.1", 1000.0 + step / 50) for step in range(60 * 50))
    assert taken == pytest.approx(AT_ADDRESS + 60 * AT_ADDRESS_PER_S, abs=1)


def test_clients_of_other_addresses_get_theirs() -> None:
    starts = HeadStarts()
    while starts.take("10.0.0.1", 0.0):
        pass
    assert starts.take("10.0.0.2", 0.0)


def test_an_address_that_rests_gets_them_again() -> None:
    starts = HeadStarts()
    while starts.take("10.0.0.1", 0.0):
        pass
    later = AT_ADDRESS / AT_ADDRESS_PER_S
    assert sum(starts.take("10.0.0.1", later) for _ in range(2 * AT_ADDRESS)) == AT_ADDRESS
