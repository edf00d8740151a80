"""An exception at any seam of one session, on a real server, while eight others go on: they get what they always get.

Where the session can't go on, its client gets its protocol's error and the close code, the log has the session's id,
and the error is counted.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server import serve, service
from streaming_asr.server.app import Application
from streaming_asr.server.live import file_decoder
from streaming_asr.server.live.connection import Connection
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import AskingDetector, silence, speech
from tests.support.media_files import clip, encoded
from tests.support.wire import Conversation, run

OTHERS = 8
QUERIES = {"/v1/listen": "?encoding=linear16&sample_rate=16000", "/v2/listen": "?encoding=linear16&sample_rate=16000"}


class Fault(Exception):
    """What is injected."""


def _fault(*_: Any, **__: Any) -> Any:
    raise Fault("injected")


async def _async_fault(*_: Any, **__: Any) -> Any:
    raise Fault("injected")


class Victim(NamedTuple):
    """What a fault can be injected into: all that one connection has, and what it shares."""

    application: Application
    connection: Connection

    @property
    def conversation(self) -> Any:
        return self.connection._live.conversation

    @property
    def session(self) -> Any:
        return self.conversation._session

    def only(self, owner: Any, name: str, key_of: Callable[..., str]) -> None:
        """Have a method that all sessions share raise for this one.

        Args:
            key_of: of its arguments: a text that begins with a session's key.
        """
        key, shared = self.session.key, getattr(owner, name)

        def raises(*arguments: Any) -> Any:
            return _fault() if key_of(*arguments).startswith(key) else shared(*arguments)

        setattr(owner, name, raises)


class Seam(NamedTuple):
    """Where an exception is injected, and whether the session can go on."""

    inject: Callable[[Victim], None]
    goes_on: bool = False
    file: bool = False
    """Whether the session sends a file."""


def _in(*path: str, fault: Callable[..., Any] = _fault) -> Callable[[Victim], None]:
    """Replaces a method: the path to it, from the connection."""

    def inject(victim: Victim) -> None:
        owner: Any = victim.connection
        for name in path[:-1]:
            owner = owner[0] if name == "[0]" else getattr(owner, name)
        setattr(owner, path[-1], fault)

    return inject


def _once_in(*path: str, fault: Callable[..., Any] = _fault) -> Callable[[Victim], None]:
    """As `_in`, for the first call only: what is broken is needed to send the error."""

    def inject(victim: Victim) -> None:
        owner: Any = victim.connection
        for name in path[:-1]:
            owner = getattr(owner, name)
        whole = getattr(owner, path[-1])

        def raises(*arguments: Any) -> Any:
            setattr(owner, path[-1], whole)
            return fault(*arguments)

        setattr(owner, path[-1], raises)

    return inject


def _busy(victim: Victim) -> None:
    """Nothing can be sent at once, so that all goes through the outbox."""
    _in("_socket", "send_now", fault=lambda _: False)(victim)


def _in_detector(victim: Victim) -> None:
    victim.session._channels[0]._detector.detect = _fault


def _in_network(victim: Victim) -> None:
    class Broken:
        network: Any = None

        answer = _fault

    def detect(frames: Any) -> Any:
        query = Broken()
        query.network = query
        return (yield query)

    victim.session._channels[0]._detector.detect = detect


def _in_metrics(name: str) -> Callable[[Victim], None]:
    def inject(victim: Victim) -> None:
        metrics = victim.application.service.metrics
        if name == "decoded":
            victim.only(metrics, name, lambda job, *_: job.utterance)
        else:
            setattr(metrics, name, _fault)

    return inject


def _in_recognizer(name: str) -> Callable[[Victim], None]:
    def inject(victim: Victim) -> None:
        recognizer = victim.application.service.recognizer
        victim.only(recognizer, name, lambda given: given if isinstance(given, str) else given.utterance)

    return inject


def _in_warning(victim: Victim) -> None:
    _in("_live", "conversation", "warn")(victim)
    victim.connection._live.warn(SessionWarning("recognizer_recovered", "A warning."))


SPOILT: Any = {"type": "websocket.receive"}
"""A message of ASGI that the reader of a connection can't take."""

SEAMS = {
    "the session's receiving": Seam(_in("_live", "conversation", "_session", "receiving")),
    "the session's finalize": Seam(_in("_live", "conversation", "_session", "finalize")),
    "the session's result": Seam(_in("_live", "conversation", "_session", "complete")),
    "the session's demand": Seam(_in("_live", "conversation", "_session", "demand")),
    "making a job": Seam(_in("_live", "conversation", "_session", "_channels", "[0]", "take_job")),
    "giving up the session": Seam(_in("_live", "conversation", "_session", "abandon"), goes_on=True),
    "the voice detector": Seam(_in_detector),
    "the network of the voice detector": Seam(_in_network),
    "the connection's reader": Seam(lambda victim: victim.connection._socket.queue.put_nowait(SPOILT)),
    "the connection's reader, for good": Seam(
        lambda victim: (
            _in("_websocket", "receive", fault=_async_fault)(victim),
            victim.connection._socket.queue.put_nowait(SPOILT),
        )[1]
    ),
    "an answer of the voice detector": Seam(_in("_live", "conversation", "voice_answered")),
    "events of a decode": Seam(_in("_live", "conversation", "decoded")),
    "the timer": Seam(
        lambda victim: (_in("_live", "conversation", "tick")(victim), victim.connection._live._tick())[1]
    ),
    "the timer's next time": Seam(
        lambda victim: (_in("_live", "conversation", "next_deadline")(victim), victim.connection._live._tick())[1]
    ),
    "a turn after others": Seam(
        lambda victim: (_in("_live", "conversation", "resume")(victim), victim.connection._live._resume())[1]
    ),
    "a warning to all": Seam(_in_warning),
    "a turn of the fair loop": Seam(_once_in("_socket", "_take_unread")),
    "taking messages": Seam(_in("_live", "conversation", "receive")),
    "a decode": Seam(_in_recognizer("decode"), goes_on=True),
    "the recognizer's release": Seam(_in_recognizer("release")),
    "the outbox, in": Seam(lambda victim: (_busy(victim), _once_in("_outbox", "put")(victim))[1]),
    "the outbox, out": Seam(
        lambda victim: (_busy(victim), _once_in("_websocket", "send_text", fault=_async_fault)(victim))[1]
    ),
    "sending": Seam(_once_in("_socket", "send_now")),
    "metrics of a session's events": Seam(_in("_live", "conversation", "_observer", "on_events")),
    "metrics of a session's audio": Seam(_in("_live", "conversation", "_observer", "received")),
    "metrics of a decode that begins": Seam(_in_metrics("began"), goes_on=True),
    "metrics of a decode that ends": Seam(_in_metrics("decoded"), goes_on=True),
}


def _s16(*pieces: Any) -> bytes:
    return (np.concatenate(pieces) * 32767).astype("<i2").tobytes()


def _utterance(seed: int) -> bytes:
    return _s16(speech(0.75, seed), silence(1.0))


def _messages(path: str) -> list[str | bytes]:
    """Speech, and what ends its utterance, as a client of the protocol sends them."""
    audio = _utterance(99)
    if "realtime" not in path:
        return [audio, *(['{"type": "finalize"}'] if path == "/v1/stream" else [])]
    append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}
    return [json.dumps({"type": "session.update", "session": {"type": "transcription"}}), json.dumps(append)]


@contextlib.asynccontextmanager
async def _serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, Application]]:
    """A server whose voice detector takes loud for voice, but asks a network; gives its address, and what is in it."""
    made: list[Application] = []

    class Watched(Application):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(serve, "Application", Watched)
    monkeypatch.setattr(service, "make_detector", lambda options: AskingDetector())
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = int(bound.getsockname()[1])
    options = ServerOptions(port=port, drain_timeout_s=1, session=SessionOptions(partial_interval_ms=100))
    serving = asyncio.create_task(serve.serve(FakeRecognizer(), options))
    while not (made and made[0].service.ready):  # noqa: ASYNC110 - nothing says when
        await asyncio.sleep(0.005)
    try:
        yield f"ws://127.0.0.1:{port}", made[0]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _other(url: str, number: int, half: _Gate | None, injected: asyncio.Event) -> list[str]:
    """A session of two utterances, one before the fault and one after it; returns its finals."""
    async with connect(f"{url}/v1/stream", ping_interval=None) as socket_:
        talking = Conversation(socket_)
        await socket_.send(_utterance(2 * number))
        await talking.receive("final")
        if half is not None:
            await half.wait()
        await injected.wait()
        await socket_.send(_utterance(2 * number + 1))
        await talking.send("stop")
        assert await talking.receive_all() == 1000
        assert talking.events[-1]["type"] == "done"
        assert not talking.of("error")
        assert not talking.of("warning")
        return [event["text"] for event in talking.of("final")]


async def _receive_all(socket_: ClientConnection) -> list[str]:
    messages: list[str] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            messages.append(str(await asyncio.wait_for(socket_.recv(), 20)))
    return messages


@pytest.fixture(scope="module")
def undisturbed() -> list[list[str]]:
    """What the eight get when nothing is wrong."""

    async def script() -> list[list[str]]:
        injected = asyncio.Event()
        injected.set()
        with pytest.MonkeyPatch.context() as monkeypatch:
            async with _serving(monkeypatch) as (url, _):
                return await asyncio.gather(*(_other(url, number, None, injected) for number in range(OTHERS)))

    texts = run(script())
    assert all(len(finals) == 2 and all(finals) for finals in texts)
    return texts


async def _disturbed(
    monkeypatch: pytest.MonkeyPatch, path: str, seam: Seam
) -> tuple[list[list[str]], list[str], int | None, str, str]:
    """Run nine sessions, one with a fault.

    Returns:
        the others' finals; the victim's messages, close code and session; and the metrics.
    """
    async with _serving(monkeypatch) as (url, application):
        half, injected = asyncio.Event(), asyncio.Event()
        query = "?encoding=auto" if seam.file else QUERIES.get(path, "")
        async with connect(f"{url}{path}{query}", ping_interval=None) as socket_:
            first, *rest = (
                [encoded("webm", "libopus", clip("a"), rate=48_000, live="1")] if seam.file else _messages(path)
            )
            if rest and path != "/v1/stream":
                await socket_.send(first)
                first, rest = rest[0], rest[1:]
            while not any(connection._live.conversation._session for connection in application.connections):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            (connection,) = application.connections
            victim = Victim(application, connection)
            key = victim.session.key
            barrier = _Gate(OTHERS, half)
            others = asyncio.gather(*(_other(url, number, barrier, injected) for number in range(OTHERS)))
            await half.wait()
            seam.inject(victim)
            for message in (first, *rest):
                await socket_.send(message)
            if seam.goes_on:
                while '"final"' not in str(await asyncio.wait_for(socket_.recv(), 20)):
                    pass
                injected.set()
                texts = await others
                await socket_.close()
                messages, code = [], None
            else:
                injected.set()
                messages, texts = await asyncio.gather(_receive_all(socket_), others)
                code = socket_.close_code
        while application.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert application.service._started.scheduler.sessions == 0
        assert application.service._started.scheduler.running == 0
        return texts, messages, code, key, application.service.metrics.text().decode()


class _Gate:
    """Opens once all have come."""

    def __init__(self, count: int, all_came: asyncio.Event) -> None:
        self._left, self._all_came = count, all_came

    async def wait(self) -> None:
        self._left -= 1
        if not self._left:
            self._all_came.set()


def _check(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    undisturbed: list[list[str]],
    path: str,
    seam: Seam,
) -> None:
    with caplog.at_level(logging.WARNING):
        texts, messages, code, key, metrics = run(_disturbed(monkeypatch, path, seam))
    assert texts == undisturbed
    assert "injected" not in "".join(messages)
    if seam.goes_on:
        return
    assert code == 1011
    assert "The server failed" in messages[-1]
    assert re.search(rf"ession {key}\b", caplog.text), caplog.text
    assert 'errors_total{code="internal"} 1.0' in metrics
    assert f'sessions{{protocol="{path}"}} 0.0' in metrics


@pytest.mark.parametrize("seam", SEAMS)
def test_a_fault_costs_one_session_at_most(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, undisturbed: list[list[str]], seam: str
) -> None:
    _check(monkeypatch, caplog, undisturbed, "/v1/stream", SEAMS[seam])


@pytest.mark.parametrize("path", PROTOCOLS)
@pytest.mark.parametrize("way", ["received", "on_events"])
def test_a_fault_of_a_translator_costs_one_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, undisturbed: list[list[str]], path: str, way: str
) -> None:
    _check(monkeypatch, caplog, undisturbed, path, Seam(_in("_live", "conversation", "_translator", way)))


@pytest.mark.parametrize("name", ["started", "LiveFile"])
def test_a_fault_of_a_file_s_decoder_costs_one_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, undisturbed: list[list[str]], name: str
) -> None:
    monkeypatch.setattr(file_decoder, name, _fault)
    _check(monkeypatch, caplog, undisturbed, "/v1/stream", Seam(lambda victim: None, file=True))
