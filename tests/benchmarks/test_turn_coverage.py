"""How utterances are compared with turns."""

from __future__ import annotations

import pytest

from benchmarks.common.measures.turns import coverage, together


def test_turns_at_once_count_once_and_gaps_between_utterances_are_missed() -> None:
    found = coverage(10, [(1, 4), (3, 5)], [(1.5, 3), (4, 6)])
    assert (found.turns_s, found.rest_s) == pytest.approx((4, 6))
    assert found.missed == pytest.approx(1.5 / 4)
    assert found.false == pytest.approx(1 / 6)
    assert found.utterances == 2


def test_recordings_count_by_their_length() -> None:
    long, short = coverage(100, [(0, 90)], []), coverage(10, [(0, 10)], [(0, 10)])
    both = together([long, short])
    assert (both.missed, both.false, both.utterances) == (pytest.approx(0.9), 0, 1)


def test_nothing_said_is_nothing_missed() -> None:
    assert coverage(5, [], []).missed == 0
