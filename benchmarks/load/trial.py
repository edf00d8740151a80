"""One run against a server, with all that is known of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.common.adapters import Adapter
from benchmarks.load.accelerator import AcceleratorWatch
from benchmarks.load.crowd import Crowd, Plan, Run
from benchmarks.load.pacing import invalid_because, lags
from benchmarks.load.progress import show_progress
from benchmarks.load.server_side import ProcessWatch, difference, fetch_metrics
from benchmarks.load.utterances import Utterance

PRIORITY = -10
"""Niceness."""


@dataclass(frozen=True, slots=True)
class Trial:
    run: Run
    lag_s: NDArray[np.float64]
    """The generator's own, of every chunk; shape ``[chunks]``."""
    invalid_because: str
    """Empty if the figures are the server's."""
    generator_cores: float
    """CPU seconds per second that the generator itself used."""
    generator_niceness: int
    server: dict[str, Any] | None
    """Its own metrics of the run, where it is ours."""
    process: dict[str, Any] | None
    """CPU and memory of the server's process, where it was named."""
    accelerators: dict[str, Any] | None
    """Of this machine, where the server's process was named and there are any that can be asked."""

    @property
    def audio_s(self) -> float:
        """Of audio sent in all."""
        return _audio_s(self.run)


class Trials:
    """Makes one run after the other with the same server and speech.

    Args:
        key: an API key of the server, for its metrics.
        server_pid: whose CPU and memory are sampled, if given.
        console: for progress; None shows none.
    """

    def __init__(
        self,
        adapter: Adapter,
        utterances: Sequence[Utterance],
        *,
        metrics_url: str,
        key: str | None = None,
        server_pid: int | None = None,
        console: Console | None = None,
    ) -> None:
        self._adapter = adapter
        self._utterances = utterances
        self._metrics_url = metrics_url
        self._key = key
        self._server_pid = server_pid
        self._console = console
        self._crowd: Crowd | None = None
        self.stopped = False
        """Whether the user wants no more."""

    def stop(self) -> None:
        """End the run under way, if any, and begin none after it."""
        self.stopped = True
        if self._crowd is not None:
            self._crowd.stop()

    async def run(self, plan: Plan) -> Trial:
        """Run a plan, and watch the server meanwhile.

        Raises:
            psutil.Error: the given process does not exist.
        """
        before = await fetch_metrics(self._metrics_url, self._key)
        watch = ProcessWatch(self._server_pid) if self._server_pid is not None else None
        self._crowd = crowd = Crowd(self._adapter, self._utterances, plan)
        if self.stopped:
            crowd.stop()
        accelerators = AcceleratorWatch() if watch and AcceleratorWatch.possible() else None
        beside = [asyncio.create_task(one.watch()) for one in (watch, accelerators) if one is not None]
        if self._console is not None:
            beside.append(asyncio.create_task(show_progress(crowd.run, self._console)))
        # A collection walks through every object of a run and stops the sending meanwhile; a run makes few cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu_s, began = _cpu_s(), time.perf_counter()
        try:
            with _priority() as niceness:
                run = await crowd.speak()
        finally:
            gc.enable()
            gc.unfreeze()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        cores = (_cpu_s() - cpu_s) / (time.perf_counter() - began)
        after = await fetch_metrics(self._metrics_url, self._key) if before is not None else None
        lag_s = lags(take.departures for take in run.takes)
        server = difference(before, after) if before is not None and after is not None else None
        process = dict(watch.figures(_audio_s(run))) if watch else None
        busy = accelerators.figures() if accelerators else None
        return Trial(run, lag_s, invalid_because(lag_s), cores, niceness, server, process, busy)


def _audio_s(run: Run) -> float:
    """Of audio sent in all."""
    return sum(take.departures.due_s[-1] for take in run.takes if take.departures.due_s)


@contextmanager
def _priority() -> Iterator[int]:
    """Go first, where that is allowed; gives the niceness.

    On one machine with a busy server the generator would wait for its turn, which clients elsewhere do not. It needs
    little, so the server loses next to nothing.
    """
    if not hasattr(os, "setpriority"):
        yield 0
        return
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(usual, PRIORITY))
    try:
        yield os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system
