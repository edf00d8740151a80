"""Loops: the same few tokens, generated again and again until the length limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_PERIOD = 40
"""Tokens of the longest repeated phrase that is found."""
LEAST_REPEATS = 3
LEAST_TOKENS = 12
"""The fewest repeats and tokens of a loop: "no, no, no" and a phrase said twice are speech."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Where a sequence repeats itself."""

    start: int
    """Index of the first token of the first repeat."""
    period: int
    """Tokens of one repeat."""
    end: int
    """Index after the last repeated token; the last repeat may be cut short."""

    @property
    def repeats(self) -> int:
        """Whole repeats."""
        return (self.end - self.start) // self.period


def find_loop(tokens: Sequence[int]) -> Loop | None:
    """The longest loop, of the shortest phrase, or None."""
    best: Loop | None = None
    for period in range(1, min(LONGEST_PERIOD, len(tokens) // LEAST_REPEATS) + 1):
        least = max(LEAST_TOKENS, LEAST_REPEATS * period)
        start = 0
        for n in range(period, len(tokens) + 1):
            if n < len(tokens) and tokens[n] == tokens[n - period]:
                continue
            if n - start >= least and (best is None or n - start > best.end - best.start):
                best = Loop(start, period, n)
            start = n - period + 1
    return best


def collapse(tokens: Sequence[int]) -> list[int]:
    """Indices of the tokens that stay when each loop is kept once.

    What follows a loop stays; a last repeat that was cut short goes with the others.
    """
    kept = list(range(len(tokens)))
    while loop := find_loop([tokens[n] for n in kept]):
        del kept[loop.start + loop.period : loop.end]
    return kept
