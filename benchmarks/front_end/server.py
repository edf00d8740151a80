"""The server under measurement: `streaming-asr serve` in all but its recognizer, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.common.null_recognizer import NullRecognizer
from benchmarks.front_end.lag import LagProbe, Spread
from benchmarks.front_end.process import answer, core_busy_s, cpu_clock, resident_bytes, run, settle_on
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.serve import serve


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What the server process has used so far."""

    cpu_s: float
    """Of all its threads."""
    wall_s: float
    resident_bytes: int
    core_busy_s: float
    """Of its core, by whatever process."""
    core_steal_s: float
    """Taken from its core by the hypervisor."""
    lag_ms: Spread
    """How late its event loop woke since the last reading."""


def server_main(pipe: Connection, core: int, port: int, slots: int, decode_s: float) -> None:
    """Serve until the pipe closes; answers every question with a `ServerReading`."""
    settle_on(core)
    logging.basicConfig(level=logging.WARNING)
    run(_serve(pipe, core, port, slots, decode_s))


async def _serve(pipe: Connection, core: int, port: int, slots: int, decode_s: float) -> None:
    probe = LagProbe()

    def reading(_: object) -> ServerReading:
        cpu, wall = cpu_clock()
        busy, steal = core_busy_s(core)
        return ServerReading(cpu, wall, resident_bytes(), busy, steal, probe.take())

    answer(pipe, reading, lambda: os.kill(os.getpid(), signal.SIGTERM))
    probing = asyncio.create_task(probe.run(), name="probe the loop's lag")
    # No session is refused: how many it holds is the question.
    options = ServerOptions(port=port, max_sessions=10_000, final_objective_s=600, drain_timeout_s=1)
    try:
        await serve(NullRecognizer(slots, decode_s), options)
    finally:
        probing.cancel()
