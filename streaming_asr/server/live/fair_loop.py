"""The connections take turns at what they received, and between turns the event loop serves everything else.

While a connection waits for its turn it receives more, and handles all of it in one turn: the busier the server, the
less a second of audio costs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

SHARE_S = 0.005
"""How long turns may keep the event loop before it serves sockets and timers."""

Turn = Callable[[], None]


class FairLoop:
    """Runs turns on one event loop, first come, first served. A turn that raises is logged, and the next one runs.

    Args:
        waited: is called now and then with how long a turn was waited for, seconds.
    """

    def __init__(self, waited: Callable[[float], None]) -> None:
        self._waited = waited
        self._waiting: deque[tuple[Turn, float]] = deque()
        self._awake = False
        """Whether `_serve` runs or will run."""

    def ask(self, turn: Turn, since: float) -> None:
        """Have a turn, soon. A connection that already waits for one should not ask again; in its turn it may.

        Args:
            since: of `time.perf_counter`; when what the turn is for may have been received.
        """
        self._waiting.append((turn, since))
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        now = time.perf_counter()
        self._waited(now - self._waiting[0][1])
        until = now + SHARE_S
        while self._waiting and time.perf_counter() < until:
            turn, _ = self._waiting.popleft()
            try:
                turn()
            except Exception:
                logger.exception("A connection's turn failed")
        self._awake = bool(self._waiting)
        if self._awake:
            asyncio.get_running_loop().call_soon(self._serve)
