"""How many wrong keys are looked at, in simulated time."""

from __future__ import annotations

import pytest

from streaming_asr.server import addresses, key_guesses
from streaming_asr.server.key_guesses import AT_ADDRESS, AT_ADDRESS_PER_S, IN_ALL, IN_ALL_PER_S, KeyGuesses


def _looked_at(guesses: KeyGuesses, addresses: list[str], seconds: int, a_second: int) -> int:
    """How many of the wrong keys that these addresses send are looked at."""
    looked_at = 0
    for step in range(seconds * a_second):
        now, address = step / a_second, addresses[step % len(addresses)]
        if not guesses.wait_s(address, f"guess {step}", now):
            guesses.wrong(address, now)
            looked_at += 1
    return looked_at


def test_guesses_of_one_address_are_bounded() -> None:
    looked_at = _looked_at(KeyGuesses(), ["10.0.0.1"], 600, 100)
    assert looked_at == pytest.approx(AT_ADDRESS + 600 * AT_ADDRESS_PER_S, abs=2)


def test_guesses_of_all_addresses_are_bounded() -> None:
    addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(1000)]
    looked_at = _looked_at(KeyGuesses(), addresses, 100, 200)
    # Each has one in any case: else it would not be known to guess.
    assert looked_at <= IN_ALL + len(addresses) + 100 * IN_ALL_PER_S


def test_a_client_that_never_sent_a_wrong_key_does_not_wait_for_those_that_do() -> None:
    guesses = KeyGuesses()
    _looked_at(guesses, [f"10.0.0.{number}" for number in range(250)], 20, 500)
    assert guesses.wait_s("10.0.0.1", "new", 20.0) > 0
    assert guesses.wait_s("10.0.1.1", "new", 20.0) == 0


def test_the_wait_is_as_long_as_is_said() -> None:
    guesses = KeyGuesses()
    for _ in range(AT_ADDRESS):
        guesses.wrong("10.0.0.1", 5.0)
    wait_s = guesses.wait_s("10.0.0.1", "new", 5.0)
    assert 0 < wait_s <= 1 / AT_ADDRESS_PER_S
    assert guesses.wait_s("10.0.0.1", "new", 5.0 + wait_s / 2) > 0
    assert guesses.wait_s("10.0.0.1", "new", 5.001 + wait_s) == 0


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    guesses = KeyGuesses()
    for number in range(AT_ADDRESS):
        guesses.wrong(f"2001:db8::{number:x}", 0.0)
    assert guesses.wait_s("2001:db8::ffff", "new", 0.0) > 0
    assert guesses.wait_s("2001:db8:0:1::1", "new", 0.0) == 0
    for _ in range(AT_ADDRESS):
        guesses.wrong("::ffff:10.0.0.1", 0.0)
    assert guesses.wait_s("10.0.0.1", "new", 0.0) > 0
    assert guesses.wait_s("unknown", "new", 0.0) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (addresses, key_guesses):
        monkeypatch.setattr(module, "MAX_ADDRESSES", 3)
    guesses = KeyGuesses()
    for number in range(10):
        guesses.wrong(f"10.0.0.{number}", 0.0)
        guesses.right(f"10.0.0.{number}", "key")
    assert (len(guesses._of_each._of_each), len(guesses._right)) == (3, 3)
