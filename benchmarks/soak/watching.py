"""What a server's process takes, read from the system and from its own metrics."""

from __future__ import annotations

import asyncio
import time

import psutil

from benchmarks.load.server_side import Samples, fetch_metrics, quantile
from benchmarks.soak.judging import Sample


class ServerGone(Exception):
    """The server's process ended, or does not answer."""


class Watcher:
    """Takes samples of a server.

    Args:
        pid: of its process.
        metrics_url: where its metrics are.
    """

    def __init__(self, pid: int, metrics_url: str) -> None:
        self._process = psutil.Process(pid)
        self._metrics_url = metrics_url
        self._began = time.monotonic()
        self._last: Samples = {}

    async def sample(self) -> Sample:
        """A sample now.

        Raises:
            ServerGone: there is none to be had.
        """
        metrics = await fetch_metrics(self._metrics_url)
        if metrics is None:
            raise ServerGone("the server does not answer")
        before, self._last = self._last, metrics
        try:
            return await asyncio.to_thread(self._sample, before, metrics)
        except psutil.Error as error:
            raise ServerGone(f"the server's process is gone: {error}") from None

    def _sample(self, before: Samples, metrics: Samples) -> Sample:
        with self._process.oneshot():
            return Sample(
                at_s=time.monotonic() - self._began,
                resident_mib=self._process.memory_info().rss / 2**20,
                descriptors=self._process.num_fds(),
                threads=self._process.num_threads(),
                tasks=int(metrics.get(("event_loop_tasks", ()), 0)),
                sessions=int(sum(value for (name, _), value in metrics.items() if name == "sessions")),
                lag_p99_s=quantile(before, metrics, "event_loop_lag_seconds", 0.99) if before else None,
            )
