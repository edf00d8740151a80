"""A recognizer whose engine dies: readiness, warnings, metrics, and an end when it can't come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import pytest
from websockets.asyncio.client import connect

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import (
    Capabilities,
    DecodeFailed,
    DecodeJob,
    Health,
    Hypothesis,
    RecognizerDown,
    RecognizerUnavailable,
)
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.serve import serve
from tests.support.fakes import CAPABILITIES, read
from tests.support.wire import Conversation, run


class FakeMortalRecognizer:
    """Reads as the fake recognizer does while it is alive, which the test decides."""

    def __init__(self) -> None:
        self.health = Health.READY
        self.lives = asyncio.Event()
        self._tell: Callable[[Health], None] = lambda health: None

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def start(self) -> None:
        self.lives.set()

    async def decode(self, job: DecodeJob) -> Hypothesis:
        if self.health is Health.FAILED:
            raise DecodeFailed("gone")
        if self.health is Health.RECOVERING:
            await self.lives.wait()
            raise RecognizerDown("died")
        return read(job)

    def become(self, health: Health) -> None:
        self.health = health
        if health is Health.RECOVERING:
            self.lives.clear()
        else:
            self.lives.set()
        self._tell(health)

    def subscribe(self, listener: Callable[[Health], None]) -> None:
        self._tell = listener

    def gauges(self) -> Mapping[str, float]:
        return {"running": 3.0}

    def release(self, utterance: str) -> None:
        pass

    async def close(self) -> None:
        pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


async def _get(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


def _speech() -> bytes:
    """A second of noise that WebRTC's detector takes for speech."""
    return np.random.default_rng(0).integers(-20_000, 20_000, 16_000, np.int16).tobytes()


Script = Callable[[FakeMortalRecognizer, int, "asyncio.Task[None]"], Awaitable[None]]


async def _with_server(script: Script, final_objective_s: float = 2.0) -> None:
    """Run the script against a server that is ready."""
    recognizer, port = FakeMortalRecognizer(), _free_port()
    options = ServerOptions(
        port=port, drain_timeout_s=5, session=SessionOptions(vad="webrtc"), final_objective_s=final_objective_s
    )
    serving = asyncio.create_task(serve(recognizer, options))
    await asyncio.wait_for(recognizer.lives.wait(), 10)
    while "503" in await _get(port, "/readyz"):  # noqa: ASYNC110  (the whole has a deadline)
        await asyncio.sleep(0.01)
    try:
        await script(recognizer, port, serving)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def test_sessions_live_through_a_death_and_new_ones_wait_for_the_recovery() -> None:
    async def script(recognizer: FakeMortalRecognizer, port: int, serving: asyncio.Task[None]) -> None:
        url = f"ws://127.0.0.1:{port}/v1/stream"
        async with connect(url) as socket_:
            talking = Conversation(socket_)
            await talking.receive("ready")
            await socket_.send(_speech())
            await talking.receive("partial")
            recognizer.become(Health.RECOVERING)
            assert (await talking.receive("warning"))["code"] == "recognizer_recovering"
            assert '"recovering"' in await _get(port, "/readyz")
            assert "streaming_asr_ready 0.0" in await _get(port, "/metrics")
            async with connect(url) as refused:
                other = Conversation(refused)
                assert await other.receive_all() == 1013
                assert other.of("error")[0]["code"] == "not_ready"
            await talking.send("stop")
            recognizer.become(Health.READY)
            assert await talking.receive_all() == 1000
            assert talking.of("warning")[-1]["code"] == "recognizer_recovered"
            assert talking.of("final")[-1]["text"]
        metrics = await _get(port, "/metrics")
        assert "streaming_asr_ready 1.0" in metrics
        assert "streaming_asr_engine_running 3.0" in metrics

    run(_with_server(script))


def test_nobody_is_refused_for_what_finals_waited_for_the_recovery() -> None:
    """Before, new sessions were `busy` until the finals that had waited were half a minute old."""
    objective_s = 0.5

    async def script(recognizer: FakeMortalRecognizer, port: int, serving: asyncio.Task[None]) -> None:
        async with contextlib.AsyncExitStack() as connections:

            async def opened() -> Conversation:
                url = f"ws://127.0.0.1:{port}/v1/stream"
                talking = Conversation(await connections.enter_async_context(connect(url)))
                await talking.receive("ready")
                return talking

            speakers = [await opened() for _ in range(8)]
            for talking in speakers:
                await talking.socket.send(_speech())
                await talking.receive("partial")
            recognizer.become(Health.RECOVERING)
            for talking in speakers:
                await talking.send("finalize")
                await talking.receive("speech_ended")
            await asyncio.sleep(2 * objective_s)
            recognizer.become(Health.READY)
            for talking in speakers:
                await talking.receive("final")
            await opened()

    run(_with_server(script, objective_s))


def test_a_recognizer_that_is_given_up_ends_the_server_after_its_sessions() -> None:
    async def script(recognizer: FakeMortalRecognizer, port: int, serving: asyncio.Task[None]) -> None:
        async with connect(f"ws://127.0.0.1:{port}/v1/stream") as socket_:
            talking = Conversation(socket_)
            await talking.receive("ready")
            await socket_.send(_speech())
            await talking.receive("partial")
            recognizer.become(Health.FAILED)
            assert await talking.receive_all() == 1011
            shown = talking.of("partial")[-1]
            assert talking.of("final")[-1]["text"] == (shown["stable"] + shown["tentative"]).strip()
            assert talking.events[-1]["code"] == "recognizer_failed"
        await asyncio.wait((serving,), timeout=10)
        assert isinstance(serving.exception(), RecognizerUnavailable)

    run(_with_server(script))


def test_a_recognizer_that_cannot_start_ends_the_server() -> None:
    class FakeMissingRecognizer(FakeMortalRecognizer):
        async def start(self) -> None:
            raise RecognizerUnavailable("no weights")

    async def main() -> None:
        with pytest.raises(RecognizerUnavailable, match="no weights"):
            await serve(FakeMissingRecognizer(), ServerOptions(port=_free_port()))

    run(main())
