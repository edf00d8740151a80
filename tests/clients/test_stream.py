"""One connection of the client library, against a server that follows a script."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trustme

from clients.errors import ConnectionBroken, ServerRefused, ServerUnreachable, StreamEnded, StreamError
from clients.events import (
    Done,
    Event,
    Final,
    Partial,
    ServerError,
    UnreadableEvent,
    Word,
    decode_event,
)
from clients.inbox import Inbox
from clients.stream import TranscriptionStream, open_stream, stream_address
from tests.support.fake_server import FakeConnection, FakeServer, Script

T = TypeVar("T")
WITHIN_S = 30


def run(awaitable: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(awaitable, WITHIN_S)

    return asyncio.run(bounded())


async def all_of(stream: TranscriptionStream) -> list[Event]:
    return [event async for event in stream]


def talk(script: Script, client: Callable[[str], Awaitable[T]]) -> tuple[T, FakeConnection]:
    async def both() -> tuple[T, FakeConnection]:
        async with FakeServer(script) as server:
            result = await client(server.url)
            return result, server.connections[0]

    return run(both())


def test_a_stream_from_ready_to_done() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_audio(3200)
        await server.send("speech_started", utterance=1, channel=0, time_ms=10)
        words = [{"text": "Hello.", "start_ms": 10, "end_ms": 90, "probability": 0.5}]
        await server.final(1, "Hello.", 10, 90, channel=0, language="en", confidence=0.5, words=words)
        await server.finish()

    async def client(url: str) -> list[Event]:
        async with open_stream(url, {"sample_rate": 16_000}) as stream:
            assert stream.ready.model == "script"
            await stream.send(bytes(3200))
            await stream.stop()
            return await all_of(stream)

    events, _ = talk(script, client)
    assert events[1] == Final(
        utterance=1,
        text="Hello.",
        start_ms=10,
        time_ms=90,
        language="en",
        confidence=0.5,
        words=(Word(text="Hello.", start_ms=10, end_ms=90, probability=0.5),),
    )
    assert events[-1] == Done(audio_ms=100)


def test_events_and_fields_of_a_newer_server_are_passed_over() -> None:
    assert decode_event('{"type":"mood","mood":"good"}') is None
    assert decode_event('{"type":"done","audio_ms":5,"mood":"good"}') == Done(audio_ms=5)


@pytest.mark.parametrize("message", ["{", "7", "{}", '{"type":"done"}', '{"type":"done","audio_ms":"x"}'])
def test_what_is_no_event_is_said_to_be_none(message: str) -> None:
    with pytest.raises(UnreadableEvent):
        decode_event(message)


def test_options_go_into_the_address_and_words_into_a_message() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        await server.send("configured", options={"context": "x" * 4000})
        await server.finish()

    async def client(url: str) -> None:
        options = {
            "sample_rate": 8000,
            "word_times": True,
            "endpoint_ms": None,
            "keywords": ["Smith, John", "Łódź"],
            "context": "x" * 4000,
        }
        async with open_stream(f"{url}?language=de&sample_rate=1", options, api_key="s3cret") as stream:
            assert stream.ready.options["context"] == "x" * 4000
            assert stream.ready.options["max_utterance_s"] == 30
            await stream.stop()
            await all_of(stream)

    _, server = talk(script, client)
    assert server.query == {"language": "de", "sample_rate": "8000", "word_times": "true", "endpoint_ms": "null"}
    assert server.received[0] == {"type": "configure", "keywords": ["Smith, John", "Łódź"], "context": "x" * 4000}
    assert server.headers["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("ws://host:1", "ws://host:1/v1/stream"),
        ("http://host/", "ws://host/v1/stream"),
        ("https://host/asr/v1/stream?token=a", "wss://host/asr/v1/stream?token=a"),
    ],
)
def test_addresses_are_completed(given: str, address: str) -> None:
    assert stream_address(given, {}) == address


@pytest.mark.parametrize("given", ["host:8000", "ftp://host", "ws://", "", "//host"])
def test_what_is_no_address_is_said_to_be_none(given: str) -> None:
    with pytest.raises(ServerUnreachable, match="is not an address such as ws://localhost:8000/v1/stream") as caught:
        stream_address(given, {})
    assert not caught.value.transient


async def connecting_to(url: str, tls: ssl.SSLContext | None = None) -> StreamError:
    with pytest.raises(StreamError) as caught:
        async with open_stream(url, tls=tls):
            pass
    return caught.value


@pytest.mark.parametrize("code", ["unauthorized", "forbidden_origin"])
def test_a_handshake_that_is_refused_has_the_servers_reason(code: str) -> None:
    async def client() -> StreamError:
        body = json.dumps({"error": {"code": code, "message": "Not you."}})
        async with FakeServer(refusal=(401, body)) as server:
            return await connecting_to(server.url)

    error = run(client())
    assert isinstance(error, ServerRefused)
    assert (error.code, str(error), error.transient) == (code, f"Not you. ({code})", False)


@pytest.mark.parametrize(
    ("status", "message", "transient"),
    [(404, "its streams are at /v1/stream", False), (401, "API key", False), (502, "HTTP 502", True)],
)
def test_another_http_answer_is_reported(status: int, message: str, transient: bool) -> None:
    async def client() -> StreamError:
        async with FakeServer(refusal=(status, "<html>")) as server:
            return await connecting_to(server.url)

    error = run(client())
    assert message in str(error)
    assert error.transient is transient


def test_a_server_without_tls_is_reported() -> None:
    async def client() -> StreamError:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await connecting_to(f"wss://127.0.0.1:{port}/v1/stream")

    error = run(client())
    assert "does not speak TLS" in str(error)
    assert "ws://" in str(error)
    assert not error.transient


def test_a_server_that_hangs_up_in_the_handshake_is_reported() -> None:
    async def client() -> StreamError:
        async with FakeServer() as server:
            return await connecting_to(server.url.replace("ws:", "wss:"))

    assert "closed before an answer came" in str(run(client()))


@pytest.mark.parametrize(
    ("code", "close", "transient"), [("busy", 1013, True), ("idle", 1008, True), ("bad_option", 1008, False)]
)
def test_a_session_that_is_refused_has_the_servers_reason(code: str, close: int, transient: bool) -> None:
    async def script(server: FakeConnection) -> None:
        await server.fail(code, close)

    error, _ = talk(script, connecting_to)
    assert isinstance(error, ServerRefused)
    assert (error.code, error.transient) == (code, transient)


def test_words_that_are_refused_are_a_refusal() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        await server.send("error", code="bad_option", message="context: too long", fatal=False)
        await server.receive()

    async def client(url: str) -> None:
        with pytest.raises(ServerRefused, match="context: too long"):
            async with open_stream(url, {"context": "x"}):
                pass

    talk(script, client)


def test_no_server_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = run(connecting_to(f"ws://127.0.0.1:{port}"))
    assert str(error) == f"No server at ws://127.0.0.1:{port}; start one with `streaming-asr serve`."
    assert error.transient


def test_something_else_on_the_port_is_reported() -> None:
    async def client() -> StreamError:
        async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n\r\n")
            await reader.read()
            writer.close()

        async with await asyncio.start_server(mail, "127.0.0.1", 0) as server:
            return await connecting_to(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert "can't be reached" in str(run(client()))


def test_a_server_that_opens_no_session_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.stream.OPEN_TIMEOUT_S", 0.1)

    async def script(server: FakeConnection) -> None:
        await server.receive()

    error, _ = talk(script, connecting_to)
    assert "opened no session" in str(error)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def speaks_tls(server: FakeConnection) -> None:
    await server.ready()
    await server.finish()


def test_tls_with_an_authority_of_ones_own(authority: trustme.CA) -> None:
    async def client() -> None:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with (
            FakeServer(speaks_tls, tls=tls_server(authority)) as server,
            open_stream(server.url, tls=trusting) as stream,
        ):
            await stream.stop()
            assert await all_of(stream)

    run(client())


def test_a_certificate_that_is_not_trusted_says_what_to_do(authority: trustme.CA) -> None:
    async def client() -> StreamError:
        async with FakeServer(speaks_tls, tls=tls_server(authority)) as server:
            return await connecting_to(server.url)

    error = run(client())
    assert "is not trusted" in str(error)
    assert "--ca" in str(error)
    assert not error.transient


def test_a_connection_that_breaks_ends_reading_and_sending() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.receive()
        server.vanish()

    async def client(url: str) -> None:
        async with open_stream(url) as stream:
            await stream.send(bytes(3200))
            with pytest.raises(ConnectionBroken) as caught:
                await all_of(stream)
            assert (caught.value.close_code, caught.value.transient) == (1006, True)
            with pytest.raises(ConnectionBroken):
                await stream.send(bytes(3200))

    talk(script, client)


async def send_for_ever(stream: TranscriptionStream) -> None:
    while True:
        await stream.send(bytes(3200))


def test_a_fatal_error_is_raised_when_reading_and_when_sending() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.send("error", code="bad_json", message="not fatal", fatal=False)
        await server.fail("session_too_long", 1008)

    async def client(url: str) -> None:
        async with open_stream(url) as stream:
            with pytest.raises(ServerRefused, match="session_too_long"):
                await send_for_ever(stream)
            assert await anext(stream.__aiter__()) == ServerError(code="bad_json", message="not fatal", fatal=False)
            with pytest.raises(ServerRefused, match="session_too_long"):
                await all_of(stream)

    talk(script, client)


def test_nothing_can_be_sent_after_the_stop() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.finish()

    async def client(url: str) -> None:
        async with open_stream(url) as stream:
            await stream.stop()
            await stream.stop()
            with pytest.raises(StreamEnded):
                await stream.send(b"ab")
            assert await all_of(stream) == [Done(audio_ms=0)]

    _, server = talk(script, client)
    assert server.received == [{"type": "stop"}]


def test_controls_in_mid_stream() -> None:
    async def script(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        await server.receive_control("finalize")
        await server.finish()

    async def client(url: str) -> None:
        async with open_stream(url) as stream:
            await stream.configure(language="de")
            await stream.finalize()
            await stream.stop()
            await all_of(stream)

    _, server = talk(script, client)
    assert server.received == [{"type": "configure", "language": "de"}, {"type": "finalize"}, {"type": "stop"}]


def test_a_program_that_sends_all_before_it_reads_gets_every_final() -> None:
    """The server sends more than sockets hold before it reads; it would wait for ever for a client that does not
    read while it sends."""

    async def script(server: FakeConnection) -> None:
        await server.ready()
        for utterance in range(1, 2001):
            for revision in (1, 2):
                await server.send(
                    "partial",
                    utterance=utterance,
                    revision=revision,
                    stable="word " * 500,
                    tentative=str(revision),
                    start_ms=0,
                    time_ms=1,
                )
            await server.final(utterance, "word " * 500, 0, 1)
        await server.finish()

    async def client(url: str) -> list[Event]:
        async with open_stream(url) as stream:
            await stream.send(bytes(20_000_000))
            await stream.stop()
            return await all_of(stream)

    events, server = talk(script, client)
    assert len(server.audio) == 20_000_000
    assert [event.utterance for event in events if isinstance(event, Final)] == list(range(1, 2001))
    revisions = [event.revision for event in events if isinstance(event, Partial)]
    assert revisions.count(2) == 2000


def partial(utterance: int, revision: int, channel: int = 0) -> Partial:
    return Partial(
        utterance=utterance, channel=channel, revision=revision, stable="", tentative="", start_ms=0, time_ms=0
    )


def test_an_inbox_keeps_the_newest_partial_of_each_utterance_and_channel() -> None:
    async def fill() -> list[object]:
        inbox: Inbox[object] = Inbox()
        for event in (partial(1, 1), partial(1, 1, channel=1), "other", partial(1, 2), partial(2, 1)):
            await inbox.put(event)
        await inbox.close()
        return [event for event in [await inbox.get() for _ in range(5)] if event is not None]

    assert run(fill()) == [partial(1, 2), partial(1, 1, channel=1), "other", partial(2, 1)]


def test_a_full_inbox_waits_for_its_reader() -> None:
    async def fill() -> None:
        inbox: Inbox[int] = Inbox(limit=3)
        for number in range(3):
            await inbox.put(number)
        waiting = asyncio.create_task(inbox.put(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await inbox.get() == 0
        await waiting
        await inbox.close(ValueError("over"))
        assert [await inbox.get() for _ in range(3)] == [1, 2, 3]
        with pytest.raises(ValueError, match="over"):
            await inbox.get()

    run(fill())
