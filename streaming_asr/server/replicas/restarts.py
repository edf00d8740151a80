"""When a replica that has died starts again, and when it is given up. No clock: times are arguments."""

from __future__ import annotations

from collections import deque

MOST = 5
WITHIN_S = 600.0
"""A replica that has died `MOST` times within this time is given up."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0


class Restarts:
    """The deaths of one replica."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> float | None:
        """How long to wait before it starts again, seconds: twice as long each time; None to give it up.

        Args:
            now: of any clock that never goes back, seconds.
        """
        while self._deaths and self._deaths[0] < now - WITHIN_S:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) >= MOST:
            return None
        wait_s: float = FIRST_WAIT_S * 2 ** (len(self._deaths) - 1)
        return min(LONGEST_WAIT_S, wait_s)

    def forget(self) -> None:
        """Somebody wants it to be tried anew."""
        self._deaths.clear()
