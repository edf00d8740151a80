"""The connections take turns at what they received, and between turns the event loop serves everything else.

While a connection waits for its turn it receives more, and handles all of it in one turn: the busier the server, the
less a second of audio costs.

Turns alone would let one client that sends without a pause keep a processor busy, which the recognizer of those who
speak may need. So while somebody speaks, the next turn of a client comes the later, the more its last ones cost.
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

CLIENT_SHARE = 0.2
"""Of the event loop's time, what one client has at most while somebody speaks. Audio in real time takes a hundredth."""

Turn = Callable[[], None]


OPENING_S = 2.0
"""What a connection costs in this time counts as its opening."""


class Account:
    """What one client has had of the event loop.

    Args:
        opening: of the address that the client comes from, which is charged for the opening too.
        share: of the event loop's time, what it has at most while somebody speaks; None: `CLIENT_SHARE`.
    """

    def __init__(self, opening: Account | None = None, share: float | None = None) -> None:
        self._share = share
        self._opening = opening
        self._open_at = time.monotonic() + OPENING_S
        self.even_at = 0.0
        """When it has had no more than its share, of `time.monotonic`."""

    def charge(self, cost_s: float) -> None:
        """The event loop has worked for the client.

        Args:
            cost_s: processor time.
        """
        now = time.monotonic()
        self.even_at = max(self.even_at, now) + cost_s * (1 / (self._share or CLIENT_SHARE) - 1)
        if self._opening is not None:
            if now < self._open_at:
                self._opening.charge(cost_s)
            else:
                self._opening = None


class FairLoop:
    """Runs turns on one event loop, first come, first served. A turn that raises is logged, and the next one runs.

    Args:
        waited: is called now and then with how long a turn was waited for, seconds.
        speaking: whether there is somebody whom others could slow.
    """

    def __init__(self, waited: Callable[[float], None], speaking: Callable[[], bool] = lambda: False) -> None:
        self._waited = waited
        self._speaking = speaking
        self._waiting: deque[tuple[Turn, float, Account | None]] = deque()
        self._awake = False
        """Whether `_serve` runs or will run."""

    def wait_s(self, account: Account) -> float:
        """How long a client that has had more than its share should wait, seconds."""
        return max(0.0, account.even_at - time.monotonic()) if self._speaking() else 0.0

    def ask(self, turn: Turn, since: float, account: Account | None = None) -> None:
        """Have a turn, soon. A connection that already waits for one should not ask again; in its turn it may.

        Args:
            since: of `time.perf_counter`; when what the turn is for may have been received.
            account: of the client. If it has had more than its share, its turn comes later.
        """
        wait_s = self.wait_s(account) if account is not None else 0.0
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._queue, turn, time.perf_counter() + wait_s, account)
        else:
            self._queue(turn, since, account)

    def _queue(self, turn: Turn, since: float, account: Account | None) -> None:
        self._waiting.append((turn, since, account))
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        now = time.perf_counter()
        self._waited(now - self._waiting[0][1])
        until = now + SHARE_S
        while self._waiting and time.perf_counter() < until:
            turn, _, account = self._waiting.popleft()
            began = time.thread_time()
            try:
                turn()
            except Exception:
                logger.exception("A connection's turn failed")
            if account is not None:
                account.charge(time.thread_time() - began)
        self._awake = bool(self._waiting)
        if self._awake:
            asyncio.get_running_loop().call_soon(self._serve)
