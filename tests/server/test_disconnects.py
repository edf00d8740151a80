"""Clients that leave in any way, at any moment, over every protocol: nothing of them stays on the server."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from benchmarks.common.leaving import WAYS, leave
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server import fair_requests
from streaming_asr.server.app import Application
from streaming_asr.server.live import connection as connection_module
from streaming_asr.server.live import fair_loop
from streaming_asr.server.live.connection import Connection
from streaming_asr.server.options import ServerOptions
from tests.support.conversing import voiced
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import serving
from tests.support.wire import run

CLIENTS = 300
AT_ONCE = 20


def _resources() -> tuple[int, int]:
    """Tasks and descriptors of this process."""
    folder = Path("/proc/self/fd")
    return len(asyncio.all_tasks()), len(os.listdir(folder)) if folder.is_dir() else 0


async def _settled(application: Application, before: tuple[int, int]) -> tuple[int, int]:
    """What is used once the server has noticed that all are gone, or when it should have."""
    for _ in range(400):
        if not application.connections and all(now <= was for now, was in zip(_resources(), before, strict=True)):
            break
        await asyncio.sleep(0.05)
    return _resources()


def test_of_hundreds_of_clients_that_leave_in_any_way_nothing_stays(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They come from one address, and have nobody to wait for.
    monkeypatch.setattr(fair_loop, "CLIENT_SHARE", 1.0)
    monkeypatch.setattr(fair_requests, "ADDRESS_SHARE", 1.0)
    options = ServerOptions(session=SessionOptions(vad="webrtc"), final_objective_s=600.0, resume_s=0.5)
    ways: Counter[str] = Counter()

    async def scenario() -> None:
        application = Application(FakeRecognizer(), options)
        pcm = voiced(1.0)
        async with serving(application) as port:
            numbers = iter(range(CLIENTS))
            before = _resources()

            async def some() -> None:
                for number in numbers:
                    # Every way comes up, then any.
                    way = list(WAYS)[number] if number < len(WAYS) else None
                    ways[await leave("127.0.0.1", port, pcm, random.Random(number), way)] += 1

            await asyncio.gather(*(some() for _ in range(AT_ONCE)))
            while application.service.parking.parked:  # noqa: ASYNC110 - nothing says when
                await asyncio.sleep(0.05)
            # One waits for the next recording, and one for the next file of a live session.
            await application.service.decoders.close()
            await application.service._live_decoders.close()
            after = await _settled(application, before)
            assert not application.connections
            assert all(now <= was for now, was in zip(after, before, strict=True)), (before, after)
            metrics = application.service.metrics.text().decode()
            assert f"streaming_asr_event_loop_tasks {after[0]:.1f}" in metrics
            for outcome in ("resumed", "expired"):
                assert re.search(rf'resumptions_total{{outcome="{outcome}"}} [1-9]', metrics)
            open_sessions = application.service.metrics.sessions.collect()[0].samples
            assert [sample.value for sample in open_sessions] == [0.0] * len(open_sessions)
            assert len(open_sessions) == len(PROTOCOLS)

    run(scenario(), 120)
    assert ways.total() == CLIENTS
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
    assert "Traceback" not in caplog.text


def test_a_connection_whose_session_another_took_over_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing left to send, and no close to wait for."""
    monkeypatch.setattr(connection_module, "CLOSE_WAIT_S", 60.0)

    async def scenario() -> None:
        application = Application(FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc")))
        async with serving(application) as port:
            url = f"ws://127.0.0.1:{port}/v1/stream?resume="
            async with connect(url + "offer") as first, connect(url + "claim") as second:
                token = json.loads(await first.recv())["resume"]["token"]
                await second.send(json.dumps({"type": "resume", "token": token, "seq": 0}))
                assert json.loads(await second.recv())["resume"]["resumed"]
                while len(application.connections) > 1:  # noqa: ASYNC110 - nothing says when
                    await asyncio.sleep(0.01)
                await second.send(json.dumps({"type": "stop"}))
                async for _ in second:
                    pass
                assert second.close_code == 1000

    run(scenario(), 20)


def test_connections_without_a_session_keep_nobody_out() -> None:
    async def scenario() -> None:
        options = ServerOptions(session=SessionOptions(vad="webrtc"), max_sessions=2, max_http_connections=10)
        application = Application(FakeRecognizer(), options)
        async with serving(application) as port:
            url = f"ws://127.0.0.1:{port}/v1/stream"
            async with connect(url) as session:
                assert json.loads(await session.recv())["type"] == "ready"
                claiming = [await connect(url + "?resume=claim") for _ in range(20)]
                assert len(application.connections) == 12
                await claiming[0].wait_closed()
                assert claiming[-1].close_code is None
                await session.send(json.dumps({"type": "stop"}))
                assert json.loads(await session.recv())["type"] == "done"
                for client in claiming:
                    await client.close()
        assert not application.connections
        assert not application._conversations

    run(scenario(), 20)
