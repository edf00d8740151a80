"""Times that a model gave each by itself, put into order.

As Qwen's package `qwen-asr` does it: the longest part of the times that never goes back is right, and the others are
placed between their neighbours in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

FEW = 2
"""Wrong times in a row that each take the time of the nearer neighbour; more are spread between the two."""


def in_order(times: Sequence[int]) -> tuple[list[int], list[bool]]:
    """Repair times that go back.

    Returns:
        The times, none less than the one before, and which of them were kept.
    """
    kept = _longest_ascent(times)
    repaired = list(times)
    n = 0
    while n < len(times):
        if kept[n]:
            n += 1
            continue
        end = n
        while end < len(times) and not kept[end]:
            end += 1
        before = repaired[n - 1] if n else None
        after = times[end] if end < len(times) else None
        repaired[n:end] = _fill(end - n, before, after)
        n = end
    return repaired, kept


def _fill(count: int, before: int | None, after: int | None) -> list[int]:
    """Times for wrong ones in a row, of the right ones on both sides; at least one of these there is."""
    if before is None or after is None:
        return [after if before is None else before] * count  # type: ignore[list-item]
    if count <= FEW:
        return [before if n < count - n else after for n in range(count)]
    return [before + (after - before) * (n + 1) // (count + 1) for n in range(count)]


def _longest_ascent(times: Sequence[int]) -> list[bool]:
    """Which times belong to a longest subsequence that never goes back; takes n log n steps."""
    ends: list[int] = []
    """Of the best subsequence of each length, the index of its last time."""
    values: list[int] = []
    before = [-1] * len(times)
    for n, time in enumerate(times):
        length = bisect_right(values, time)
        before[n] = ends[length - 1] if length else -1
        if length == len(ends):
            ends.append(n)
            values.append(time)
        else:
            ends[length], values[length] = n, time
    kept = [False] * len(times)
    n = ends[-1] if ends else -1
    while n >= 0:
        kept[n] = True
        n = before[n]
    return kept
