"""How late an event loop wakes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common.stats import percentiles

PROBE_S = 0.01
"""Seconds between the moments at which the loop should wake."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of some times, in ms; all 0 where there were none."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    count: int = 0


def spread(seconds: Sequence[float]) -> Spread:
    """Percentiles of times in seconds."""
    found = percentiles(seconds, 50, 95, 99, 100)
    if found is None:
        return Spread()
    p50, p95, p99, most = (1000 * value for value in found)
    return Spread(p50, p95, p99, most, len(seconds))


class LagProbe:
    """Wakes on a fixed grid of moments and notes how late it is.

    Every moment that a stall covers is counted with its own lateness; a probe that only waited for the next one would
    see a stall of a second as one sample among a hundred.
    """

    def __init__(self) -> None:
        self._lags: list[float] = []

    async def run(self) -> None:
        """Probe the running loop until cancelled."""
        # Not the loop's own clock: uvloop reads that once for all callbacks of a turn.
        due = time.perf_counter() + PROBE_S
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            now = time.perf_counter()
            while due <= now:
                self._lags.append(now - due)
                due += PROBE_S

    def take(self) -> Spread:
        """The lags since the last call."""
        taken, self._lags = self._lags, []
        return spread(taken)
