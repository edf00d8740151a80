"""How much of what a server can take it has taken: one number from 0 to 1, for autoscalers.

The load of a moment is the larger of two shares: of the sessions that are allowed, and of the time that finals may wait
for a slot. Sessions alone would miss a recognizer that is slower than was thought; waits alone rise only when it is
nearly too late, as those of any queue do. The number is smoothed exponentially, so that it is the same however often it
is read, and one burst of finals does not start a server.
"""

from __future__ import annotations

import math

SMOOTHING_S = 15.0
"""Time constant: after a lasting change, the load has made 63 % of the way in this time, and 95 % in three times it."""


class Load:
    """The load of one server.

    Args:
        max_sessions: at which the load is 1.
        wait_objective_s: wait of finals at which the load is 1, seconds.
    """

    def __init__(self, max_sessions: int, wait_objective_s: float) -> None:
        self._max_sessions = max_sessions
        self._wait_objective_s = wait_objective_s
        self._smoothed = 0.0
        self._observed: float | None = None
        """When it was last observed."""

    @property
    def value(self) -> float:
        """0 to 1, smoothed."""
        return self._smoothed

    def observe(self, sessions: int, wait_s: float, now: float) -> None:
        """Take the present state into account; call it regularly.

        Args:
            sessions: open now.
            wait_s: how long finals wait for a slot, seconds.
            now: of any clock that never goes back, seconds.
        """
        self._approach(max(sessions / self._max_sessions, wait_s / self._wait_objective_s), now)

    def observe_outage(self, now: float) -> None:
        """Nothing can be taken now: the recognizer is being started again."""
        self._approach(1.0, now)

    def _approach(self, present: float, now: float) -> None:
        if self._observed is not None:
            step = 1 - math.exp(-max(0.0, now - self._observed) / SMOOTHING_S)
            self._smoothed += step * (min(1.0, max(0.0, present)) - self._smoothed)
        self._observed = now
