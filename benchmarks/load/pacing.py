"""When chunks are due, how late the generator itself was, and whether its figures can be trusted.

The lag is how long after the moment when its last sample has been spoken a chunk departs, as far as the generator is to
blame: while a server does not read, and so holds the sender back, the wait is counted as `held_s` instead.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LAG_P99_S = 0.05
"""The latencies to be measured begin at about 0.2 s, and users send chunks of 0.02 to 0.1 s. The event loop that sends
also stamps what comes back: if it is later than this, the tail of the latencies is its own."""
LAG_WORST_S = 0.5
"""A pause of this length bends the latency of all sessions of that moment, and in minutes no p99 shows it."""
TICK_S = 0.001
"""Of uvloop's timers, which round to it: audio can't be sent before it was spoken."""
HELD_S = 0.005
"""A call of `send` that takes longer waited for the server: else it only copies bytes to the socket."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds."""

    async def until(self, due: float) -> None:
        """Return at `due`, at once if it is past."""


class WallClock:
    """The computer's."""

    def now(self) -> float:
        return time.perf_counter()

    async def until(self, due: float) -> None:
        # The event loop's own heap of timers is the shared one: a task sleeps for each session, not for each chunk.
        # Timers count from when the loop last looked at the time, so after a long step they fire too early.
        while (left := due - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left + TICK_S)


class Departures:
    """The chunks that left in one session: arrays, since a run has millions."""

    def __init__(self) -> None:
        self.left_s = array("d")
        """On the session's clock."""
        self.due_s = array("d")
        self.lag_s = array("d")
        self.held_s = 0.0
        """How long the server held the sender back, in all."""
        self._free_s = 0.0

    def add(self, due_s: float, began_s: float, left_s: float) -> None:
        """Note a chunk: when it was due, when sending began, and when that returned."""
        self.due_s.append(due_s)
        self.left_s.append(left_s)
        self.lag_s.append(max(0.0, began_s - max(due_s, self._free_s)))
        if left_s - began_s > HELD_S:
            self.held_s += left_s - began_s
            self._free_s = left_s


def lags(departures: Iterable[Departures]) -> NDArray[np.float64]:
    """Every chunk's lag, in seconds; shape ``[chunks]``."""
    return np.concatenate([np.empty(0), *(np.frombuffer(one.lag_s) for one in departures if one.lag_s)])


def invalid_because(lag_s: NDArray[np.float64]) -> str:
    """Why a run with these lags says more of the generator than of the server; empty if it does not."""
    if not len(lag_s):
        return ""
    p99, worst = float(np.percentile(lag_s, 99)), float(lag_s.max())
    if p99 > LAG_P99_S:
        return f"the generator fell behind: p99 of its own lag is {p99:.3f} s, more than {LAG_P99_S:g} s"
    if worst > LAG_WORST_S:
        return f"the generator stood still for {worst:.3f} s, more than {LAG_WORST_S:g} s"
    return ""
