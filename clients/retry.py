"""When to try again, and when to stop trying. Time comes in as an argument."""

from __future__ import annotations

import random

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0


def backoff_s(attempt: int) -> float:
    """How long to wait before an attempt, counted from 1: doubling, with a random part so that clients spread."""
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 20))
    return longest * random.uniform(0.5, 1)


class Patience:
    """Counts the time without a session, until there is progress again.

    A session that opens and breaks without progress does not count as an end of the outage; else a server that fails
    on the same audio each time would be asked for ever.

    Args:
        limit_s: longest outage.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._attempts = 0
        self._spent_s = 0.0
        self._lost_at: float | None = None
        self._progress = 0

    def opened(self, now: float) -> None:
        """There is a session."""
        if self._lost_at is not None:
            self._spent_s += now - self._lost_at
            self._lost_at = None

    def failed(self, now: float, progress: int) -> int | None:
        """There is none (any more).

        Args:
            progress: anything that grows as the stream gets on.

        Returns:
            the number of the attempt to make, from 1; None when patience is at its end.
        """
        if progress > self._progress:
            self._progress, self._attempts, self._spent_s = progress, 0, 0.0
        if self._lost_at is None:
            self._lost_at = now
        if self._spent_s + now - self._lost_at > self._limit_s:
            return None
        self._attempts += 1
        return self._attempts
