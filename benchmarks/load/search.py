"""The search for the most streams that a server holds within the objective: doubling, then halving the gap."""

from __future__ import annotations

from dataclasses import dataclass, field

PRECISION = 0.05
"""The answer is this near, in proportion, or exact where that is less than a stream."""


@dataclass
class Search:
    """Finds the largest number of streams that a server holds, by doubling and then by halves.

    Args:
        first: streams to begin with.
        limit: more are not tried.
    """

    first: int = 1
    limit: int = 1024
    held: int = 0
    """The most that was held so far."""
    missed: int | None = None
    """The least that was not."""
    tried: list[tuple[int, bool]] = field(default_factory=list)

    def next(self) -> int | None:
        """How many streams to try, None when the answer is known: it is `held`."""
        if self.missed is None:
            if self.held >= self.limit:
                return None
            return min(self.limit, 2 * self.held or self.first)
        if self.missed - self.held <= max(1, int(PRECISION * self.held)):
            return None
        return (self.held + self.missed) // 2

    def found(self, streams: int, *, held: bool) -> None:
        """Note how a try went."""
        self.tried.append((streams, held))
        if held:
            self.held = max(self.held, streams)
        else:
            self.missed = streams if self.missed is None else min(self.missed, streams)
