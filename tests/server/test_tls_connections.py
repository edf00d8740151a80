"""TLS that takes no more of the event loop than its share: over sockets, on asyncio's event loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import trustme

from streaming_asr.server.live.fair_loop import Account, FairLoop
from streaming_asr.server.live.websocket import TURN_BYTES
from streaming_asr.server.tls_connections import TlsConnections
from streaming_asr.server.tls_server import TlsServer
from tests.support.wire import run

RECORD_BYTES = 22
"""What a record of a byte takes on the wire, at least."""

Runner = Callable[[Coroutine[Any, Any, None]], None]
RUNNERS: dict[str, Runner] = {"asyncio": run}
with contextlib.suppress(ImportError):
    import uvloop

    RUNNERS["uvloop"] = uvloop.run


@pytest.fixture(params=tuple(RUNNERS))
def runner(request: pytest.FixtureRequest) -> Runner:
    return RUNNERS[request.param]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, and of its clients."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    return ours, theirs


class Received(asyncio.Protocol):
    """What a connection was sent, and when."""

    def __init__(self) -> None:
        self.parts: list[tuple[float, bytes]] = []
        self.more = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.parts.append((asyncio.get_running_loop().time(), data))
        self.more.set()

    async def has(self, size: int) -> None:
        while sum(len(data) for _, data in self.parts) < size:
            self.more.clear()
            await self.more.wait()


class Slow(FairLoop):
    """Every client has had too much."""

    def wait_s(self, account: Account) -> float:
        return 0.2 if account.even_at else 0.0


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext, fair_loop: FairLoop) -> AsyncIterator[tuple[int, asyncio.Queue[Received]]]:
    """A server; gives its port, and its connections as they come."""
    opened: asyncio.Queue[Received] = asyncio.Queue()

    def make() -> Received:
        made = Received()
        opened.put_nowait(made)
        return made

    bound = socket.create_server(("127.0.0.1", 0), backlog=100)
    server = TlsServer(make, bound, TlsConnections(context, 100, 10, fair_loop))
    try:
        yield bound.getsockname()[1], opened
    finally:
        server.close()
        await server.wait_closed()


def connect(port: int, tls: ssl.SSLContext, **more: Any) -> Awaitable[Any]:
    return asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost", **more)


async def shake(port: int, tls: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO, asyncio.StreamWriter]:
    """A connection whose records are written one by one."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls.wrap_bio(received, sent, server_hostname="localhost")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(sent.read())
            received.write(await reader.read(65536))
        else:
            writer.write(sent.read())
            return client, sent, writer


def test_records_of_a_byte_have_turns_as_frames_have(
    runner: Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    ours, theirs = contexts

    async def script() -> None:
        async with serving(ours, FairLoop(lambda waited_s: None)) as (port, opened):
            client, sent, writer = await shake(port, theirs)
            received = await opened.get()
            for _ in range(20_000):
                client.write(b"a")
            writer.write(sent.read())
            await received.has(20_000)
            assert b"".join(data for _, data in received.parts) == b"a" * 20_000
            assert max(len(data) for _, data in received.parts) <= TURN_BYTES // RECORD_BYTES
            writer.transport.abort()

    runner(script())


def test_a_client_whose_records_cost_too_much_is_read_later_and_loses_nothing(
    runner: Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    ours, theirs = contexts

    async def script() -> None:
        async with serving(ours, Slow(lambda waited_s: None)) as (port, opened):
            _, writer = await connect(port, theirs)
            writer.write(bytes(5 * TURN_BYTES))
            received = await opened.get()
            await received.has(5 * TURN_BYTES)
            times = [time for time, _ in received.parts]
            assert times[-1] - times[0] >= 0.6
            assert b"".join(data for _, data in received.parts) == bytes(5 * TURN_BYTES)
            writer.transport.abort()

    runner(script())


def test_handshakes_of_one_address_have_a_share_and_others_do_not_wait_for_them(
    runner: Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    ours, theirs = contexts

    async def script() -> None:
        loop = asyncio.get_running_loop()
        async with serving(ours, FairLoop(lambda waited_s: None, lambda: True)) as (port, _):
            began = loop.time()
            flood = [asyncio.ensure_future(connect(port, theirs)) for _ in range(60)]
            await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
            _, other = await connect(port, theirs, local_addr=("127.0.0.2", 0))
            assert not all(each.done() for each in flood)
            opened = await asyncio.gather(*flood)
            assert loop.time() - began >= 0.9
            for writer in (other, *(writer for _, writer in opened)):
                writer.transport.abort()

    runner(script())
