"""Sessions that send a file instead of raw audio: its order with controls, and what holds back whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psutil
import pytest

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.options import SessionOptions
from streaming_asr.engine.media import live as live_module
from streaming_asr.engine.media import priorities
from streaming_asr.engine.media.limits import LIVE_MEMORY_BYTES
from streaming_asr.protocols.base import Handshake
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.server.live import file_sessions
from streaming_asr.server.live.connection import Connection, conversation_limits
from streaming_asr.server.live.conversation_state import State
from streaming_asr.server.live.fair_loop import Account
from streaming_asr.server.live.file_sessions import TooManyFiles
from streaming_asr.server.live.live_conversation import LiveConversation
from streaming_asr.server.metrics import ConversationMetrics
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.service import Service
from tests.server.test_connection import FakeWebSocket
from tests.support.conversing import FILE, Client, command, quiet, voiced
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.media_files import clip, encoded


def _client(**query: str) -> Client:
    return Client(encoding="auto", **query).started()


def test_a_control_waits_for_the_audio_that_was_sent_before_it() -> None:
    client = _client(endpoint_ms="null")
    client.send(FILE + voiced(0.4), command("finalize"), command("ping", id=1))
    assert client.state is State.WAITING_FOR_DECODER
    assert not client.conversation.reading
    assert client.of("pong") == []
    client.finish()
    assert client.of("pong") == [{"type": "pong", "id": 1}]
    assert [(event["reason"], event["time_ms"]) for event in client.of("speech_ended")] == [("finalize", 400)]


def test_a_stop_waits_for_the_end_of_the_file() -> None:
    client = _client()
    client.send(FILE + voiced(0.4), voiced(1.0), command("stop"))
    client.finish()
    assert client.of("done") == [{"type": "done", "audio_ms": 1400}]
    assert client.errors == []
    assert not client.decoder.runs


@pytest.mark.parametrize("first", [b"", FILE[:2]], ids=["nothing", "what may be a file"])
def test_audio_that_is_no_file_is_raw(first: bytes) -> None:
    client = _client()
    client.send(*filter(None, [first]), voiced(0.4), voiced(0.4), command("stop"))
    client.finish()
    assert client.of("done") == [{"type": "done", "audio_ms": 800}]
    assert client.decoder.starts == 0


def test_a_few_bytes_that_may_be_a_file_are_raw_if_a_control_follows() -> None:
    client = _client()
    client.send(bytes(8), command("finalize"), voiced(0.4), command("stop"))
    client.finish()
    assert client.kinds[:1] == ["finalized"]
    assert client.of("done") == [{"type": "done", "audio_ms": 400}]


def test_the_socket_is_not_read_while_too_much_waits_for_the_decoder() -> None:
    client = _client()
    client.send(FILE + voiced(0.4))
    client.fill_decoder(True)
    client.send(voiced(0.4))
    assert not client.conversation.reading
    client.wait(100)
    client.fill_decoder(False)
    assert client.conversation.reading
    client.send(command("stop"))
    client.finish()
    assert client.of("done") == [{"type": "done", "audio_ms": 800}]


def test_the_decoder_is_not_read_while_the_session_is_full() -> None:
    client = _client(max_utterance_s="5")
    for _ in range(60):
        client.send(FILE + voiced(0.4) if client.decoder.starts == 0 else voiced(0.4))
        client.step_decoder()
    assert client.state is State.FULL
    assert not client.conversation.takes_decoded
    assert client.conversation.held_s < 21
    client.finish()
    client.send(command("stop"))
    client.finish()
    assert client.of("done") == [{"type": "done", "audio_ms": 24_000}]


def test_what_was_decoded_before_the_decoder_failed_is_transcribed() -> None:
    client = _client()
    client.send(FILE + voiced(0.4))
    client.step_decoder()
    client.fail_decoder()
    client.finish()
    assert client.kinds[-2:] == ["final", "error"]
    assert client.errors == ["bad_audio"]
    assert client.close is not None


def test_raw_audio_may_follow_a_file_by_a_change_of_format() -> None:
    client = _client()
    client.send(FILE + voiced(0.4), command("configure", encoding="s16le"), voiced(0.4))
    client.finish()
    client.send(command("configure", encoding="auto"), FILE + voiced(0.4), command("stop"))
    client.finish()
    assert client.of("done") == [{"type": "done", "audio_ms": 1200}]
    assert client.decoder.starts == 2


def test_a_change_of_other_options_leaves_the_file_alone() -> None:
    client = _client()
    client.send(FILE + voiced(0.4), command("configure", endpoint_ms=300), voiced(0.4), command("stop"))
    client.finish()
    assert client.of("done") == [{"type": "done", "audio_ms": 800}]
    assert client.decoder.starts == 1


def test_repairs_of_each_kind_are_reported_once() -> None:
    client = _client()
    client.send(FILE + quiet(0.4))
    for _ in range(3):
        client.conversation.decoder_warned(SessionWarning("audio_damaged", "Damaged.", repair=True), client.now)
        client.send()
    assert [warning["code"] for warning in client.of("warning")] == ["audio_damaged"]


# With a decoder in a process of its own


def _webm() -> bytes:
    return encoded("webm", "libopus", clip("a"), rate=48_000, live="1")


ADDRESS = "192.0.2.7"
"""Of the client."""


def _connected(
    script: Callable[[FakeWebSocket, Service, LiveConversation], Awaitable[None]],
    before: Callable[[Service], None] = lambda service: None,
    **options: Any,
) -> None:
    """Run a script with one client.

    Args:
        before: is called before the client connects.
    """

    async def run() -> None:
        service = Service(FakeRecognizer(), ServerOptions(**options))
        await service.start()
        before(service)
        socket = FakeWebSocket()
        handshake = Handshake("/v1/stream", query=(("encoding", "auto"), ("vad", "webrtc")))
        live = LiveConversation(
            NativeTranslator(handshake, SessionOptions()),
            service,
            conversation_limits(service.options),
            ConversationMetrics(service.metrics, "/v1/stream"),
            service.voice,
            service.turns,
            service.parking,
            service.files,
            address=ADDRESS,
        )
        connection = Connection(socket, live, service, None, Account())  # type: ignore[arg-type]
        running = asyncio.create_task(connection.run())
        try:
            await script(socket, service, live)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await _until(lambda: service.files.count == 0)
        await service.close()

    asyncio.run(asyncio.wait_for(run(), 60))


async def _pid_of_decoder(live: LiveConversation) -> int:
    def pid() -> int:
        file = live._decoder._file
        return (file.pid or 0) if file is not None else 0

    await _until(lambda: pid() > 0)
    return pid()


async def _until(fulfilled: Callable[[], bool]) -> None:
    while not fulfilled():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _received_ms(live: LiveConversation) -> int:
    session = live.conversation._session
    return session.audio_ms if session is not None else 0


def _codes(socket: FakeWebSocket) -> list[str]:
    return [message["code"] for message in socket.sent if message["type"] == "error"]


def test_a_file_is_decoded_while_it_arrives() -> None:
    file = _webm()

    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        socket.give(*(file[start : start + 1000] for start in range(0, len(file), 1000)))
        await _until(lambda: _received_ms(live) > 3000)
        socket.give(command("stop"))
        await socket.closed.wait()
        assert socket.sent[-1] == {"type": "done", "audio_ms": 3290}

    _connected(script)


def test_a_decoder_that_crashes_ends_its_session_with_an_error_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        socket.give(_webm()[:2000])
        os.kill(await _pid_of_decoder(live), signal.SIGSEGV)
        await socket.closed.wait()
        session = socket.sent[0]["session"]
        assert _codes(socket) == ["bad_audio"]
        assert socket.sent[-1]["message"] == "The audio can't be decoded: its decoder failed."
        assert socket.close_code == 1008
        assert f"Session {session}: the file that it sends can't be decoded" in caplog.text
        assert service.metrics.decoders_lost.labels("session")._value.get() == 1

    _connected(script)


def test_a_decoder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "WAITS_S", 0.3)

    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        socket.give(_webm()[:2000])
        os.kill(await _pid_of_decoder(live), signal.SIGSTOP)
        socket.give(command("finalize"))
        await socket.closed.wait()
        assert "takes too long" in socket.sent[-1]["message"]

    _connected(script)


def test_bytes_wait_in_the_socket_while_the_decoder_is_behind() -> None:
    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        socket.give(_webm()[:2000])
        os.kill(await _pid_of_decoder(live), signal.SIGSTOP)
        socket.give(*[bytes(20_000)] * 200)
        await _until(lambda: live.conversation.state is State.WAITING_FOR_DECODER)
        await asyncio.sleep(0.1)
        assert socket.inbox.qsize() > 150

    _connected(script)


def test_the_decoder_ends_with_its_client() -> None:
    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        socket.give(_webm()[:2000])
        pid = await _pid_of_decoder(live)
        socket.inbox.put_nowait({"type": "websocket.disconnect"})
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                await asyncio.sleep(0.01)

    _connected(script)


def test_more_sessions_with_files_than_allowed_are_refused_as_busy() -> None:
    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        with service.files.place("192.0.2.1"):
            socket.give(_webm()[:2000])
            await socket.closed.wait()
        assert _codes(socket) == ["busy"]
        assert "1 sessions send files; send raw audio" in json.dumps(socket.sent[-1])

    _connected(script, max_file_sessions=1)


def test_an_address_has_three_quarters_of_the_sessions_that_send_files() -> None:
    async def script() -> None:
        service = Service(FakeRecognizer(), ServerOptions(max_file_sessions=4))
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(service.files.place(ADDRESS))
            with pytest.raises(TooManyFiles, match="3 sessions from your address send files"):
                stack.enter_context(service.files.place(ADDRESS))
            stack.enter_context(service.files.place("192.0.2.8"))
        assert service.files.count == 0

    asyncio.run(script())


_BUSY = """
import os, threading, time
os.fork() or time.sleep(600)
threading.Thread(target=time.sleep, args=[600], daemon=True).start()
while True: pass
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that keeps a processor busy, with a fork and a thread that do nothing."""
    with subprocess.Popen([sys.executable, "-c", _BUSY], start_new_session=True) as process:
        yield process.pid
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process has used")
def test_decoders_of_an_address_that_take_more_than_its_share_get_the_lowest_priority(
    busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_sessions, "CPU_S", 1.0)
    monkeypatch.setattr(file_sessions, "CPU_S_PER_S", 0.01)
    monkeypatch.setattr(file_sessions, "SAMPLE_S", 0.02)
    normal = os.getpriority(os.PRIO_PROCESS, 0)

    async def script() -> None:
        service = Service(FakeRecognizer(), ServerOptions())
        with service.files.place(ADDRESS) as place, service.files.watched(place, busy):
            assert not place.low
            assert os.getpriority(os.PRIO_PROCESS, busy) == normal
            await _until(lambda: place.low)
            all_of_it = [busy, *map(int, os.listdir(f"/proc/{busy}/task")), *priorities.forks_of(busy)]
            assert len(set(all_of_it)) == 3
            assert {os.getpriority(os.PRIO_PROCESS, one) for one in all_of_it} == {priorities.LOWEST}
            assert {os.sched_getscheduler(one) for one in all_of_it} == {os.SCHED_IDLE}

    asyncio.run(asyncio.wait_for(script(), 60))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process has used")
@pytest.mark.parametrize(("spender", "low"), [(ADDRESS, True), ("192.0.2.8", False)])
def test_the_next_decoder_of_such_an_address_has_the_lowest_priority_and_little_memory(spender: str, low: bool) -> None:
    def spend(service: Service) -> None:
        with service.files.place(spender) as place:
            service.files._charge(place, file_sessions.CPU_S + 60 * file_sessions.CPU_S_PER_S)

    async def script(socket: FakeWebSocket, service: Service, live: LiveConversation) -> None:
        socket.give(_webm())
        pid = await _pid_of_decoder(live)
        await _until(lambda: _received_ms(live) > 3000)
        niceness = os.getpriority(os.PRIO_PROCESS, pid)
        assert niceness == (priorities.LOWEST if low else os.getpriority(os.PRIO_PROCESS, 0))
        allowed, _ = resource.prlimit(pid, resource.RLIMIT_AS)
        assert allowed - psutil.Process(pid).memory_info().vms < LIVE_MEMORY_BYTES

    _connected(script, spend)
