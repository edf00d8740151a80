"""The connections take turns at what has come for them, and between turns the event loop sees to everything else.

Who waits for a turn meanwhile gathers more, and does it all in one: a second of audio costs the less, the busier the
server is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SHARE_S = 0.005
"""How long turns may keep the event loop before it sees to sockets and timers."""

Turn = Callable[[], None]
"""Must not raise."""


class Turns:
    """Lives on one event loop. First come, first served.

    Args:
        waited: is told now and then how long a turn was waited for, seconds.
    """

    def __init__(self, waited: Callable[[float], None]) -> None:
        self._waited = waited
        self._waiting: deque[tuple[Turn, float]] = deque()

    def ask(self, turn: Turn, since: float) -> None:
        """Have a turn, soon. Who already waits for one should not ask again.

        Args:
            since: of `time.perf_counter`; when what it is for may have come.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._serve)
        self._waiting.append((turn, since))

    def _serve(self) -> None:
        now = time.perf_counter()
        self._waited(now - self._waiting[0][1])
        until = now + SHARE_S
        while self._waiting and time.perf_counter() < until:
            turn, _ = self._waiting.popleft()
            turn()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._serve)
