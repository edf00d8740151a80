"""Bounds of uvicorn's HTTP, and answers to handshakes that can't be read: by real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol

from streaming_asr.server import http_bounds
from streaming_asr.server.http_bounds import bounded_http
from streaming_asr.server.live.websocket import MAX_HEAD_BYTES, DirectWebSocket
from tests.support.serving import listening
from tests.support.wire import run

BASES = [H11Protocol]
with contextlib.suppress(ImportError):
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    BASES.append(HttpToolsProtocol)  # type: ignore[arg-type]

UPGRADE = (
    "Host: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
LARGE = 50_000_000


async def _large(request: Request) -> Response:
    return PlainTextResponse(bytes(LARGE))


async def _small(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _slow(request: Request) -> Response:
    """Answered when the client does not wait any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return PlainTextResponse("late")


async def _accept(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()


async def _accept_too_late(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
    await websocket.accept()


@contextlib.asynccontextmanager
async def _serving(base: type[asyncio.Protocol], most_open: int) -> AsyncIterator[int]:
    """A server; gives its port."""
    application = Starlette(
        routes=[
            Route("/", _small),
            Route("/large", _large),
            Route("/slow", _slow, methods=["GET", "POST"]),
            WebSocketRoute("/ws", _accept),
            WebSocketRoute("/late", _accept_too_late),
        ]
    )
    config = uvicorn.Config(
        application,
        port=0,
        http=bounded_http(most_open, base),
        ws=DirectWebSocket,
        h11_max_incomplete_event_size=4 * MAX_HEAD_BYTES,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    async with listening(config) as port:
        yield port


def _with_server(
    script: Callable[[int], Awaitable[None]], base: type[asyncio.Protocol] = H11Protocol, most_open: int = 100
) -> None:
    async def going() -> None:
        async with _serving(base, most_open) as port:
            await script(port)

    run(going())


async def _asked(port: int, head: str | bytes) -> bytes:
    """All that is answered until the server closes, or the status line of a handshake that is accepted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head if isinstance(head, bytes) else head.encode("latin-1"))
    try:
        line = await asyncio.wait_for(reader.readline(), 10)
        return line if b" 101 " in line else line + await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.fixture(params=BASES)
def base(request: pytest.FixtureRequest) -> type[asyncio.Protocol]:
    found: type[asyncio.Protocol] = request.param
    return found


def test_a_handshake_may_have_a_long_query_and_long_headers(base: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        query = "&".join(f"keyterm=a+technical+term+number+{number}" for number in range(1700))
        assert len(query) > 60_000
        assert b" 101 " in await _asked(port, f"GET /ws?{query} HTTP/1.1\r\n{UPGRADE}\r\n")
        assert b" 101 " in await _asked(port, f"GET /ws HTTP/1.1\r\n{UPGRADE}Cookie: {'c' * 65_000}\r\n\r\n")

    _with_server(script, base)


@pytest.mark.parametrize(
    "head",
    [
        f"GET /ws HTTP/1.1\r\n{UPGRADE}" + "".join(f"X-{number}: b\r\n" for number in range(130)) + "\r\n",
        f"GET /ws HTTP/1.1\r\n{UPGRADE}Content-Length: 5\r\n\r\n",
        f"POST /ws HTTP/1.1\r\n{UPGRADE}\r\n",
        f"GET /ws HTTP/1.1\r\n{UPGRADE.replace('13', '12')}\r\n",
        f"GET /ws HTTP/1.1\r\n{UPGRADE}X: {'x' * 400_000}\r\n\r\n",
    ],
    ids=["too many headers", "a body", "a method", "a version", "a long header"],
)
def test_every_handshake_that_is_not_valid_is_answered(base: type[asyncio.Protocol], head: str) -> None:
    async def script(port: int) -> None:
        answer = await _asked(port, head)
        assert answer.startswith(b"HTTP/1.1 4"), answer[:200]

    _with_server(script, base)


def test_a_head_that_grows_too_large_is_refused(base: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /?a=" + b"a" * (MAX_HEAD_BYTES - 1000))
        await asyncio.sleep(0.05)
        writer.write(b"a" * 2000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()

    _with_server(script, base)


def test_idle_connections_and_half_requests_are_closed(
    base: type[asyncio.Protocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bounds, "HEAD_TIMEOUT_S", 0.2)

    async def script(port: int) -> None:
        idle = asyncio.create_task(_asked(port, b""))
        half = asyncio.create_task(_asked(port, f"GET /ws HTTP/1.1\r\n{UPGRADE}"))
        half_of_the_second = asyncio.create_task(_asked(port, "GET / HTTP/1.1\r\nHost: here\r\n\r\nGET /"))
        assert await idle == b""
        assert (await half).startswith(b"HTTP/1.1 408 ")
        answers = await half_of_the_second
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answers or answers.endswith(b"ok")

    _with_server(script, base)


def test_connections_are_bounded_in_number_and_websockets_do_not_count(base: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        opened = []
        for _ in range(4):
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            opened[-1][1].write(f"GET /ws HTTP/1.1\r\n{UPGRADE}\r\n".encode())
            assert b" 101 " in await opened[-1][0].readline()
        opened += [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in opened[-2:]:
            writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.05)
        assert (await _asked(port, b"")).startswith(b"HTTP/1.1 503 ")
        for _, writer in opened:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert (await _asked(port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 200 "
        )

    _with_server(script, base, most_open=2)


def test_connections_without_a_request_keep_nobody_out(base: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        idle = []
        for number in range(20):
            idle.append(await asyncio.open_connection("127.0.0.1", port))
            idle[-1][1].write(b"GET / HTTP/1.1\r\n"[:number])
        request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert (await _asked(port, request)).startswith(b"HTTP/1.1 200 ")
        first, last = idle[0][0], idle[-1][1]
        assert (await first.readline()).startswith(b"HTTP/1.1 408 ")
        # The latest are still open.
        last.write(b"\r\nHost: a\r\nConnection: close\r\n\r\n")
        for _, writer in idle:
            writer.close()

    _with_server(script, base, most_open=3)


def test_a_client_that_does_not_read_its_response_is_cut_off(
    base: type[asyncio.Protocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bounds, "UNREAD_TIMEOUT_S", 0.2)

    async def script(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        await reader.readline()
        await asyncio.sleep(0.6)
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100_000):
                received += len(data)
        assert received < LARGE
        writer.close()

    _with_server(script, base)


@pytest.fixture
def httptools() -> type[asyncio.Protocol]:
    """Of uvicorn's two, the one that reads many requests at once."""
    return BASES[-1]


def test_requests_far_ahead_of_their_responses_are_refused_at_once(httptools: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        few = "GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 16 + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert (await _asked(port, few)).count(b"HTTP/1.1 200 ") == 17
        many = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" * 2000
        assert (await _asked(port, many)).startswith(b"HTTP/1.1 429 ")

    _with_server(script, httptools)


def test_a_client_that_leaves_requests_behind_is_no_fault(
    httptools: type[asyncio.Protocol], caplog: pytest.LogCaptureFixture
) -> None:
    async def script(port: int) -> None:
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
            await asyncio.sleep(0.01)
            writer.transport.abort()
        assert (await _asked(port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).endswith(b"ok")

    _with_server(script, httptools)
    assert "Traceback" not in caplog.text


def test_a_request_with_too_many_headers_is_refused(base: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        head = "GET / HTTP/1.1\r\n" + "a: b\r\n" * 1000 + "\r\n"
        assert (await _asked(port, head)).startswith(b"HTTP/1.1 431 ")

    _with_server(script, base)


def test_the_bounds_of_a_request_hold_for_one_that_is_sent_ahead(base: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        many = await _asked(port, first + "GET / HTTP/1.1\r\n" + "a: b\r\n" * 1000 + "\r\n")
        assert b"HTTP/1.1 431 " in many
        assert many.count(b"HTTP/1.1 ") <= 2
        long = await _asked(port, first + "GET /?a=" + "a" * 4 * MAX_HEAD_BYTES)
        assert b"HTTP/1.1 431 " in long
        whole = first + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert (await _asked(port, whole)).count(b"HTTP/1.1 200 ") == 2

    _with_server(script, base)


def test_a_head_that_grows_while_a_response_is_awaited_is_refused(httptools: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        first = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
        assert (await _asked(port, first + "GET /?a=" + "a" * 1_000_000)).startswith(b"HTTP/1.1 431 ")
        head = first + "GET / HTTP/1.1\r\nHost: " + "a" * 1_000_000
        assert (await _asked(port, head)).startswith(b"HTTP/1.1 431 ")
        body = f"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_HEAD_BYTES}\r\n\r\n" + "b" * MAX_HEAD_BYTES
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(body.encode())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()

    _with_server(script, httptools)


def test_a_handshake_ahead_of_a_response_is_refused(httptools: type[asyncio.Protocol]) -> None:
    async def script(port: int) -> None:
        head = f"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /ws HTTP/1.1\r\n{UPGRADE}\r\n"
        assert (await _asked(port, head)).startswith(b"HTTP/1.1 400 ")

    _with_server(script, httptools)


def test_frames_that_can_not_be_read_before_the_handshake_is_answered_refuse_it(
    base: type[asyncio.Protocol], caplog: pytest.LogCaptureFixture
) -> None:
    async def script(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /late HTTP/1.1\r\n{UPGRADE}\r\n".encode())
        answer = asyncio.create_task(reader.read())
        # What comes together with the handshake is not read at all.
        while not (await asyncio.wait([answer], timeout=0.02))[0]:
            writer.write(b"\xff" * 100)
        assert answer.result().startswith(b"HTTP/1.1 400 ")
        writer.close()

    _with_server(script, base)
    assert "Traceback" not in caplog.text
