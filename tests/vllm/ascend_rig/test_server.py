"""The whole server on vllm-ascend: people speak live, and the engine is killed while they do."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, talk
from tests.support.wire import speech as clip
from tests.vllm.engine import OPTIONS, engine_processes

STARTS_WITHIN_S = 600.0
SPEAKERS = 3


@pytest.fixture(scope="module")
def ascend_server(tiny_qwen3_asr: Path) -> Iterator[LiveServer]:
    live = LiveServer(*OPTIONS, "--max-num-seqs=8", model=str(tiny_qwen3_asr)).start(wait_ready=False)
    try:
        live.wait_for("Ready: ", STARTS_WITHIN_S)
        yield live
    finally:
        live.stop()


async def speak(server: LiveServer, path: Path, middle: asyncio.Event) -> Conversation:
    """A clip at the pace of speech."""

    async def script(talking: Conversation) -> Conversation:
        receiving = asyncio.create_task(talking.receive_all())
        samples = clip(path)
        half = len(samples) // 2
        await talking.send_paced(samples[:half])
        middle.set()
        await talking.send_paced(samples[half:])
        await talking.send("stop")
        assert await receiving == 1000
        return talking

    return await talk(server.url, script)


def test_live_sessions_get_partials_and_finals_while_others_speak(ascend_server: LiveServer, librivox: Path) -> None:
    paths = sorted(librivox.glob("*.wav"))[:SPEAKERS]

    async def everyone() -> list[Conversation]:
        return await asyncio.gather(*(speak(ascend_server, path, asyncio.Event()) for path in paths))

    talks = run(everyone(), 400)
    for talking in talks:
        kinds = [event["type"] for event in talking.events]
        assert kinds.index("speech_started") < kinds.index("partial") < kinds.index("final")
        assert kinds.count("final") == kinds.count("speech_started")
        assert "error" not in kinds
    # Random weights say something else about each clip.
    assert len({talking.text for talking in talks}) == SPEAKERS
    assert ascend_server.metric("streaming_asr_engine_generated_tokens") > 0
    assert ascend_server.metric("streaming_asr_engine_cached_tokens") > 0


def test_a_killed_engine_costs_no_session(ascend_server: LiveServer, librivox: Path) -> None:
    assert ascend_server.process is not None
    paths = sorted(librivox.glob("*.wav"))[:SPEAKERS]
    processes = engine_processes(ascend_server.process.pid)

    async def everyone() -> list[Conversation]:
        middles = [asyncio.Event() for _ in paths]
        talks = [
            asyncio.create_task(speak(ascend_server, path, middle)) for path, middle in zip(paths, middles, strict=True)
        ]
        await middles[0].wait()
        os.kill(next(one.pid for one in processes if one.ppid() == ascend_server.process.pid), signal.SIGKILL)
        return await asyncio.gather(*talks)

    talks = run(everyone(), 600)
    codes = [warning["code"] for talking in talks for warning in talking.of("warning")]
    assert {"recognizer_recovering", "recognizer_recovered"} <= set(codes)
    for talking in talks:
        kinds = [event["type"] for event in talking.events]
        assert kinds.count("final") == kinds.count("speech_started") > 0
        assert "error" not in kinds
    assert ascend_server.get("/readyz")[0] == 200
    _, left = psutil.wait_procs(processes, timeout=15)
    assert not left
