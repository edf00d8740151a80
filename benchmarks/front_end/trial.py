"""One server, one crowd, more and more sessions: what each number of them costs, and whether it holds."""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.front_end.crowd import CrowdReading, Join, Leave, Read, crowd_main
from benchmarks.front_end.lag import Spread
from benchmarks.front_end.material import Material
from benchmarks.front_end.process import Child, ChildFailed
from benchmarks.front_end.server import ServerReading, server_main

LAG_OBJECTIVE_MS = 50.0
"""The event loop's lag at the 99th percentile, up to which a number of sessions holds."""
WAIT_OBJECTIVE_MS = 250.0
"""What clients send waits for its turn this long at most, at the 99th percentile, where a number holds."""
PROCESSED_AT_LEAST = 0.98
"""Share of the audio sent in a window to process in it. The server counts each session's in whole seconds."""
CROWD_LATE_MS = 20.0
"""A crowd that sends its chunks later than this at the 99th percentile measures itself: the step is invalid."""
SETTLE_S = 3.0
"""Between the last join and the window."""
_READY_WITHIN_S = 30.0
_ANSWER_WITHIN_S = 10.0
_DONE_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What is run, and where."""

    query: str = ""
    """Session options, as in a URL."""
    seconds: float = 10.0
    """Length of each window."""
    slots: int = 64
    """Of the null recognizer."""
    decode_s: float = 0.0
    """How long it makes each job wait."""
    server_core: int = 0
    crowd_core: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """A window with a number of sessions."""

    sessions: int
    age_s: float
    """Of the oldest session, at the end of the window."""
    audio_s: float
    """Seconds of audio that the server processed in the window."""
    cpu_ms: float
    """Of the server's whole process, for a second of audio."""
    core_share: float
    """Of its core, that the server used."""
    others_share: float
    """Of its core, that other processes and the hypervisor took."""
    memory_kib: float
    """For each session, above the server without any."""
    lag_ms: Spread
    """Of the server's event loop."""
    wait_ms: float
    """Within which 99 % of what the clients sent was processed; infinite beyond the metric's last bucket."""
    processed_share: float
    """Of the audio that was sent."""
    unsent_bytes: int
    """That the server had not read at the end."""
    crowd_lag_ms: Spread
    crowd_core_share: float
    messages_per_s: float
    """For each session."""
    decodes_per_s: float
    """Of all sessions."""
    failures: tuple[str, ...]
    """Of this step."""

    @property
    def valid(self) -> bool:
        """Whether the crowd kept its own time."""
        return self.crowd_lag_ms.p99 <= CROWD_LATE_MS

    @property
    def keeps_up(self) -> bool:
        """Whether the server processed the audio of all sessions, and its event loop was never blocked for long."""
        processed = self.lag_ms.p99 < LAG_OBJECTIVE_MS and self.processed_share >= PROCESSED_AT_LEAST
        return self.valid and processed and not self.failures

    @property
    def holds(self) -> bool:
        """Whether it also processed it soon."""
        return self.keeps_up and self.wait_ms <= WAIT_OBJECTIVE_MS

    @property
    def verdict(self) -> str:
        if not self.valid:
            return "INVALID"
        if self.holds:
            return "holds"
        return "late" if self.keeps_up else "does not hold"


def lost_step(sessions: int, age_s: float, reason: str) -> Step:
    """A number of sessions at which nothing could be measured any more."""
    nothing = Spread()
    return Step(
        sessions=sessions,
        age_s=age_s,
        audio_s=0.0,
        cpu_ms=0.0,
        core_share=0.0,
        others_share=0.0,
        memory_kib=0.0,
        lag_ms=nothing,
        wait_ms=math.inf,
        processed_share=0.0,
        unsent_bytes=0,
        crowd_lag_ms=nothing,
        crowd_core_share=0.0,
        messages_per_s=0.0,
        decodes_per_s=0.0,
        failures=(reason,),
    )


class _NoAnswer(Exception):
    """The server did not answer over HTTP."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """What came of the sessions when all of them stopped."""

    sessions: int
    done: int
    """Sessions that received `done`."""
    lost_s: float
    """Audio that was sent and not processed, by the server's own account; seconds, of all sessions."""
    took_s: float


@dataclass(frozen=True, slots=True)
class _Moment:
    server: ServerReading
    crowd: CrowdReading
    processed_s: float
    decodes: float
    waits: dict[float, float]
    """How many waits were at most this many seconds."""


class Trial:
    """Runs the steps; use as a context manager.

    Raises:
        ChildFailed: the server or the crowd can't start.
    """

    def __init__(self, setting: Setting, material: Material) -> None:
        self._setting = setting
        self._material = material
        self._port = _free_port()

    def __enter__(self) -> Trial:
        setting = self._setting
        with ExitStack() as opened:
            serving = Child("server", server_main, setting.server_core, self._port, setting.slots, setting.decode_s)
            # The crowd leaves first: closed in the opposite order.
            self._server = opened.enter_context(serving)
            query = f"sample_rate={self._material.sample_rate}&{setting.query}".rstrip("&")
            speaking = Child("crowd", crowd_main, setting.crowd_core, self._port, query, self._material)
            self._crowd = opened.enter_context(speaking)
            self._wait_until_ready()
            self._baseline = self._moment()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def steps(self, counts: Sequence[int], say: Callable[[str], None], *, until_lost: bool) -> Iterator[Step]:
        """Measure each number of sessions; those that are there stay, so that later windows see older sessions.

        Args:
            counts: ascending; the same again measures again.
            say: is called with each line of progress.
            until_lost: end after the first number that the server does not keep up with; without it, after the first at
                which it answers no more.
        """
        failed = 0
        began: float | None = None
        for count in counts:
            reading: CrowdReading = self._crowd.ask(Read())
            if count > reading.sessions:
                say(f"{count} sessions: joining")
                began = began or time.monotonic()
                reading = self._crowd.ask(Join(count - reading.sessions))
                while reading.joining:
                    time.sleep(0.2)
                    reading = self._crowd.ask(Read())
                    say(f"{count} sessions: {reading.sessions} have joined")
                say(f"{count} sessions: settling")
                time.sleep(SETTLE_S)
            try:
                before = self._moment()
                end = time.monotonic() + self._setting.seconds
                while (left := end - time.monotonic()) > 0:
                    say(f"{count} sessions: measuring, {left:.0f} s left")
                    time.sleep(min(left, 0.5))
                after = self._moment()
            except _NoAnswer as error:
                yield lost_step(count, time.monotonic() - (began or time.monotonic()), str(error))
                return
            step = self._step(count, before, after, failed, time.monotonic() - (began or end))
            failed = len(after.crowd.failures)
            yield step
            if until_lost and not step.keeps_up:
                return

    def farewell(self) -> Farewell:
        """Stop all sessions and wait for their ends."""
        before: CrowdReading = self._crowd.ask(Leave())
        began = time.monotonic()
        after: CrowdReading = before
        while after.sessions and time.monotonic() - began < _DONE_WITHIN_S:
            time.sleep(0.1)
            after = self._crowd.ask(Read())
        return Farewell(
            sessions=before.sessions,
            done=after.received.get("done", 0) - before.received.get("done", 0),
            lost_s=after.sent_s - after.processed_ms / 1000,
            took_s=time.monotonic() - began,
        )

    def _step(self, count: int, before: _Moment, after: _Moment, failed: int, age_s: float) -> Step:
        server_s = after.server.wall_s - before.server.wall_s
        crowd_s = after.crowd.wall_s - before.crowd.wall_s
        cpu_s = after.server.cpu_s - before.server.cpu_s
        processed_s = after.processed_s - before.processed_s
        sent_s = after.crowd.sent_s - before.crowd.sent_s
        others_s = after.server.core_busy_s - before.server.core_busy_s - cpu_s
        others_s += after.server.core_steal_s - before.server.core_steal_s
        received = sum(after.crowd.received.values()) - sum(before.crowd.received.values())
        grown = after.server.resident_bytes - self._baseline.server.resident_bytes
        return Step(
            sessions=count,
            age_s=age_s,
            audio_s=processed_s,
            cpu_ms=1000 * cpu_s / processed_s if processed_s else 0.0,
            core_share=cpu_s / server_s,
            others_share=max(0.0, others_s / server_s),
            memory_kib=grown / 1024 / count,
            lag_ms=after.server.lag_ms,
            wait_ms=1000 * _quantile(0.99, before.waits, after.waits),
            processed_share=processed_s / sent_s if sent_s else 0.0,
            unsent_bytes=after.crowd.unsent_bytes,
            crowd_lag_ms=after.crowd.lag_ms,
            crowd_core_share=(after.crowd.cpu_s - before.crowd.cpu_s) / crowd_s,
            messages_per_s=received / crowd_s / count,
            decodes_per_s=(after.decodes - before.decodes) / server_s,
            failures=tuple(after.crowd.failures[failed:]),
        )

    def _moment(self) -> _Moment:
        """Readings of both sides, the crowd's first at the beginning as at the end, so that the spans are alike."""
        text = self._get("/metrics")
        return _Moment(
            crowd=self._crowd.ask(Read()),
            server=self._server.ask(Read()),
            processed_s=_metric(text, "streaming_asr_audio_seconds_total"),
            decodes=_metric(text, "streaming_asr_decodes_total"),
            waits=_buckets(text, "streaming_asr_turn_wait_seconds"),
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                if json.loads(self._get("/readyz"))["status"] == "ready":
                    return
            except _NoAnswer:
                # An answer to this fails at once if the process is gone.
                self._server.ask(Read(), _READY_WITHIN_S)
            if time.monotonic() > deadline:
                raise ChildFailed(f"the server is not ready after {_READY_WITHIN_S:g} s")
            time.sleep(0.1)

    def _get(self, path: str) -> str:
        """The body of a page.

        Raises:
            _NoAnswer: none came in time, or an error.
        """
        url = f"http://127.0.0.1:{self._port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_WITHIN_S) as answered:
                text: str = answered.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise _NoAnswer(f"the server did not answer {path} within {_ANSWER_WITHIN_S:g} s: {error}") from None
        return text


def _metric(text: str, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def _buckets(text: str, name: str) -> dict[float, float]:
    """A histogram's upper bounds, and how many observations are within each."""
    found = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\S+)$', text, re.MULTILINE)
    return {float(bound): float(count) for bound, count in found}


def _quantile(share: float, before: dict[float, float], after: dict[float, float]) -> float:
    """The bound within which that share of the observations made meanwhile is; 0 if there were none."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    wanted = share * max(counts.values(), default=0.0)
    return next((bound for bound, count in sorted(counts.items()) if count >= wanted), 0.0) if wanted else 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
