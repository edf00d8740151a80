"""The metrics of all replicas, collected whenever one of them is asked for those of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streaming_asr.server.replicas.replica import Replica
from streaming_asr.server.replicas.summed_metrics import sum_growing

COLLECT_S = 2.0
"""How long the replicas may take to report their metrics; of those that take longer the last ones count."""


class MetricsCollection:
    """Asks all replicas, and sends what they report to those that want it; these sum it up. Needs an event loop."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._last: dict[Replica, bytes] = {}
        """As the process of each reported them last."""
        self._ended = b""
        """Of processes that have ended, as far as they only grow."""
        self._asking: set[Replica] = set()
        """Those that wait for the metrics of all."""
        self._unreported: set[Replica] = set()
        """Those whose metrics are still to come."""
        self._timer: asyncio.TimerHandle | None = None
        """While metrics are collected."""

    def ask(self, replica: Replica) -> None:
        """Send this replica the metrics of all, once they are there."""
        self._asking.add(replica)
        if self._timer is not None:
            return
        self._timer = asyncio.get_running_loop().call_later(COLLECT_S, self._send)
        reading = self._reading()
        self._unreported = set(reading)
        for each in reading:
            each.send("metrics?")

    def reported(self, replica: Replica, metrics: bytes) -> None:
        """A replica has reported its metrics."""
        self._last[replica] = metrics
        self._settle(replica)

    def ended(self, replica: Replica) -> None:
        """The process of a replica is gone. Call it once its channel is closed."""
        if metrics := self._last.pop(replica, b""):
            self._ended = sum_growing([self._ended, metrics])
        self._asking.discard(replica)
        self._settle(replica)

    def _reading(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.channel is not None]

    def _settle(self, replica: Replica) -> None:
        self._unreported.discard(replica)
        if self._timer is not None and not self._unreported:
            self._send()

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reported = [(replica.number, self._last.get(replica, b"")) for replica in self._reading()]
        parts = [(0, self._ended), *((number, text) for number, text in reported if text)]
        sizes = [[number, len(text)] for number, text in parts]
        body = b"".join(text for _, text in parts)
        deaths = [[replica.number, replica.deaths] for replica in self._replicas]
        asking, self._asking = self._asking, set()
        for replica in asking:
            replica.send("all metrics", body=body, sizes=sizes, deaths=deaths)
