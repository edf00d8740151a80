"""The metrics that operators scale and alert by: load, status, memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect

from streaming_asr.core import load
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import DecodeJob, Hypothesis
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.service import Service
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import serving
from tests.support.wire import run

NOISE = np.random.default_rng(0).integers(-20_000, 20_000, 9_600, np.int16).tobytes()
"""0.6 s that WebRTC's detector takes for speech."""


def value(text: str, name: str) -> float | None:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


async def _until(port: int, name: str, reached: Callable[[float], bool]) -> float:
    """The value of a metric, once it is as wanted."""
    async with httpx.AsyncClient() as client:
        while True:
            got = value((await client.get(f"http://127.0.0.1:{port}/metrics")).text, name)
            if got is not None and reached(got):
                return got
            await asyncio.sleep(0.05)


def _options(**options: object) -> ServerOptions:
    return ServerOptions(port=0, session=SessionOptions(vad="webrtc"), **options)  # type: ignore[arg-type]


def test_the_load_follows_the_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SMOOTHING_S", 0.05)

    async def script() -> None:
        async with serving(Application(FakeRecognizer(), _options(max_sessions=4))) as port:
            url = f"ws://127.0.0.1:{port}/v1/stream"
            async with connect(url), connect(url), connect(url):
                assert await _until(port, "streaming_asr_load", lambda got: got > 0.7) <= 0.75
            await _until(port, "streaming_asr_load", lambda got: got < 0.05)

    run(script())


def test_the_load_is_1_while_finals_wait_longer_than_their_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits as they are measured, for a recognizer that is too slow for its clients."""
    monkeypatch.setattr(load, "SMOOTHING_S", 0.05)

    class Slow(FakeRecognizer):
        async def decode(self, job: DecodeJob) -> Hypothesis:
            await asyncio.sleep(0.2)
            return await super().decode(job)

    async def talk(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/v1/stream?partials=false") as socket:
            while True:
                await socket.send(NOISE)
                await socket.send('{"type": "finalize"}')
                await asyncio.sleep(0.6)

    async def script() -> None:
        async with serving(Application(Slow(), _options(load_objective_s=0.1))) as port:
            talking = [asyncio.create_task(talk(port)) for _ in range(8)]
            try:
                await _until(port, "streaming_asr_load", lambda got: got > 0.99)
            finally:
                for task in talking:
                    task.cancel()
                await asyncio.gather(*talking, return_exceptions=True)

    run(script())


def test_a_server_that_still_loads_has_a_status_and_no_load() -> None:
    """An autoscaler that averages over servers would otherwise take it for an idle one."""

    async def script() -> None:
        service = Service(FakeRecognizer(), _options())
        text = service.metrics.text().decode()
        assert value(text, "streaming_asr_load") is None
        assert value(text, 'streaming_asr_status{status="loading"}') == 1
        await service.start()
        text = service.metrics.text().decode()
        assert value(text, "streaming_asr_load") == 0
        assert value(text, 'streaming_asr_status{status="ready"}') == 1
        assert value(text, 'streaming_asr_status{status="loading"}') == 0
        service.drain()
        assert value(service.metrics.text().decode(), 'streaming_asr_status{status="draining"}') == 1
        await service.close()

    run(script())


def test_memory_is_reported_beside_its_limit() -> None:
    async def script() -> None:
        text = Service(FakeRecognizer(), _options(max_memory_mib=4096)).metrics.text().decode()
        assert value(text, "streaming_asr_memory_limit_bytes") == 4096 * 2**20
        assert 10 * 2**20 < (value(text, "streaming_asr_memory_bytes") or 0) < 4096 * 2**20

    run(script())
