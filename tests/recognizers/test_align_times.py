"""Times that a model gave out of order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.recognizers.vllm.models.align_times import in_order


@pytest.mark.parametrize(
    ("times", "repaired"),
    [
        ([], []),
        ([3, 3, 5, 9], [3, 3, 5, 9]),
        # One or two take the time of the nearer neighbour.
        ([1, 90, 5, 9], [1, 1, 5, 9]),
        ([1, 90, 80, 5, 9, 11], [1, 1, 5, 5, 9, 11]),
        # More are spread between the two.
        ([10, 10, 9, 8, 7, 50, 60], [10, 10, 20, 30, 40, 50, 60]),
        # At the ends there is but one neighbour.
        ([90, 5, 9], [5, 5, 9]),
        ([5, 9, 1], [5, 9, 9]),
    ],
)
def test_times_that_go_back_are_placed_between_their_neighbours(times: list[int], repaired: list[int]) -> None:
    assert in_order(times)[0] == repaired


@settings(deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=60))
def test_repaired_times_never_go_back_and_most_are_kept(times: list[int]) -> None:
    repaired, kept = in_order(times)
    assert repaired == sorted(repaired)
    assert all(repaired[n] == times[n] for n in range(len(times)) if kept[n])
    assert sum(kept) == longest_ascent(times)


def longest_ascent(times: list[int]) -> int:
    lengths: list[int] = []
    for n, time in enumerate(times):
        lengths.append(1 + max((lengths[m] for m in range(n) if times[m] <= time), default=0))
    return max(lengths, default=0)
