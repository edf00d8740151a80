"""When to connect again after a connection failed or broke, and when to give up. Time comes in as an argument.

`clients/browser/retry.js` has the same delays.
"""

from __future__ import annotations

import random

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0


def backoff_s(attempt: int, draw: float | None = None) -> float:
    """The delay before an attempt, in seconds.

    Delays double up to a limit; half of each is random, so that clients that lost the same server do not all return
    at once ("equal jitter").

    Args:
        attempt: from 1.
        draw: random number from 0 to 1; None draws one.
    """
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 20))
    return longest * (0.5 + (random.random() if draw is None else draw) / 2)


class Patience:
    """Numbers the attempts of an outage, and limits how long it may take.

    Only progress ends an outage: if sessions open but break on the same audio each time, delays still grow, and the
    time between those sessions still adds up to the limit.

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
        """A session opened."""
        if self._lost_at is not None:
            self._spent_s += now - self._lost_at
            self._lost_at = None

    def failed(self, now: float, progress: int) -> int | None:
        """A connection failed or broke.

        Args:
            progress: any measure that grows while the stream advances.

        Returns:
            the number of the attempt that follows, from 1; None if the outage has reached its limit.
        """
        if progress > self._progress:
            self._progress, self._attempts, self._spent_s = progress, 0, 0.0
        if self._lost_at is None:
            self._lost_at = now
        if self._spent_s + now - self._lost_at > self._limit_s:
            return None
        self._attempts += 1
        return self._attempts
