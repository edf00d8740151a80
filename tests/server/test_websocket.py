"""uvicorn's WebSocket, made to give its messages directly: by real connections to a small application."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from streaming_asr.server.live import unfinished
from streaming_asr.server.live import websocket as websocket_module
from streaming_asr.server.live.fair_loop import Account, FairLoop
from streaming_asr.server.live.websocket import DirectWebSocket, direct_socket
from tests.support import serving
from tests.support.wire import run

MESSAGES = [b"%d" % number if number % 3 else str(number) for number in range(500)]


class Listener:
    """The server's side of one connection: what it was given, and how."""

    def __init__(self) -> None:
        self.taken: list[list[str | bytes]] = []
        """By `_take`, call by call."""
        self.received: list[str | bytes] = []
        """By ASGI."""
        self.may_go_on = True
        self.fails = False
        """Whether `_take` raises."""
        self.directly = asyncio.Event()
        """Set it to have messages taken directly."""
        self.socket: DirectWebSocket | None = None
        self.account = Account()
        self.outlives = True
        self.gone = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def messages(self) -> list[str | bytes]:
        return [*self.received, *(message for messages in self.taken for message in messages)]

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.socket = direct_socket(websocket)
        assert self.socket is not None
        await self.directly.wait()
        self.socket.direct(
            self._take, FairLoop(lambda _: None, lambda: True), None, self.account, lambda: self.outlives
        )
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            text: str | None = message.get("text")
            self.received.append(text if text is not None else message["bytes"])
            self._changed.set()
        self.gone.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _take(self, messages: Sequence[str | bytes]) -> bool:
        if self.fails:
            raise KeyError("a fault of the server")
        self.taken.append(list(messages))
        self._changed.set()
        return self.may_go_on


@contextlib.asynccontextmanager
async def listening(listener: Listener, log_level: str = "critical") -> AsyncIterator[str]:
    """A real server on a real port; gives its URL."""
    application = Starlette(routes=[WebSocketRoute("/", listener.serve)])
    config = uvicorn.Config(
        application, port=0, ws=DirectWebSocket, log_level=log_level, log_config=None, ws_max_size=100_000_000
    )
    async with serving.listening(config) as port:
        yield f"ws://127.0.0.1:{port}/"


def conversing(script: Callable[[Listener, ClientConnection], Awaitable[None]], *, directly: bool = True) -> None:
    """Connect and run the script."""

    async def going() -> None:
        listener = Listener()
        if directly:
            listener.directly.set()
        async with listening(listener) as url, connect(url, compression=None, ping_interval=None) as socket:
            await script(listener, socket)

    run(going())


def test_messages_come_in_order_and_many_at_once() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        for message in MESSAGES:
            await socket.send(message)
        await listener.until(lambda: len(listener.messages) == len(MESSAGES))
        assert listener.messages == MESSAGES
        assert len(listener.taken) < len(MESSAGES) / 2

    conversing(script)


def test_a_client_that_costs_more_than_its_share_is_not_read_for_a_while() -> None:
    """So a flood of frames that mean nothing waits in its own socket, and in the client."""

    async def script(listener: Listener, socket: ClientConnection) -> None:
        await socket.send("first")
        await listener.until(lambda: bool(listener.taken))
        assert listener.account.even_at > 0
        listener.account.charge(3600)
        assert listener.socket is not None
        while not listener.socket.read_paused:
            await socket.send("more")
            await asyncio.sleep(0)
        assert listener.messages == ["first"]

    conversing(script)


def test_earlier_messages_are_still_received() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        for message in MESSAGES[:250]:
            await socket.send(message)
        listener.directly.set()
        for message in MESSAGES[250:]:
            await socket.send(message)
        await listener.until(lambda: len(listener.messages) == len(MESSAGES))
        assert listener.messages == MESSAGES

    conversing(script, directly=False)


def test_a_message_in_many_frames_is_one() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        await socket.send(["a", "bc", "ä"])
        await socket.send([bytes(100_000)] * 10)
        await listener.until(lambda: len(listener.messages) == 2)
        assert listener.messages == ["abcä", bytes(1_000_000)]

    conversing(script)


def test_a_socket_is_not_read_until_more_may_come() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        listener.may_go_on = False
        message, count = bytes(100_000), 400
        sending = asyncio.create_task(_send_all(socket, [message] * count))
        await listener.until(lambda: bool(listener.taken))
        # The sender gets stuck when the buffers between are full.
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.5)
        assert not sending.done()
        assert len(listener.taken) == 1
        assert len(listener.taken[0]) < 10
        listener.may_go_on = True
        assert listener.socket is not None
        listener.socket.resume()
        await sending
        await listener.until(lambda: len(listener.messages) == count)

    conversing(script)


def test_a_connection_whose_messages_can_not_be_taken_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        listener.fails = True
        await socket.send("hello")
        await asyncio.wait_for(listener.gone.wait(), 5)
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    conversing(script)
    assert "A connection's turn failed" in caplog.text


async def _send_all(socket: ClientConnection, messages: Sequence[str | bytes]) -> None:
    for message in messages:
        await socket.send(message)


def test_messages_just_before_the_end_are_received() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        await socket.send("hello")
        await listener.until(lambda: bool(listener.taken))
        # In one piece, and the connection is lost at once.
        socket.transport.write(b"".join(_frame(Opcode.BINARY, b"last words") for _ in range(3)))
        socket.transport.close()
        await listener.gone.wait()
        assert listener.messages == ["hello", b"last words", b"last words", b"last words"]

    conversing(script)


def test_of_a_client_that_is_gone_nothing_is_handled_that_nobody_waits_for() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        listener.outlives = False
        await socket.send("hello")
        await listener.until(lambda: bool(listener.taken))
        # It is not read any more, as one that floods, or sends more than is decoded.
        listener.account.charge(3600)
        for _ in range(10):
            await socket.send(b"last words" * 1000)
        socket.transport.abort()
        await asyncio.wait_for(listener.gone.wait(), 10)
        assert listener.messages == ["hello"]

    conversing(script)


def test_text_that_is_not_utf_8_ends_the_connection_after_what_came_before_it() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        socket.transport.write(_frame(Opcode.BINARY, b"fine") + _frame(Opcode.TEXT, b"\xff\xfe"))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1007
        await listener.gone.wait()
        assert listener.messages == [b"fine"]

    conversing(script)


def test_fragments_take_no_more_memory_than_their_bytes() -> None:
    empty = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 20_000
    small = Frame(Opcode.CONT, b"ab", fin=False).serialize(mask=True) * 20_000

    async def script(listener: Listener, socket: ClientConnection) -> None:
        socket.transport.write(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True))
        for fragments in (empty, small, empty):
            socket.transport.write(fragments)
        await (await socket.ping())
        assert listener.socket is not None
        held = (listener.socket.frames, listener.socket._fragments, *listener.socket.frames)
        assert sum(map(sys.getsizeof, held)) < 100_000
        socket.transport.write(Frame(Opcode.CONT, b"c").serialize(mask=True))
        await listener.until(lambda: bool(listener.messages))
        assert listener.messages == ["ab" * 20_000 + "c"]

    conversing(script)


def test_a_client_may_close_in_mid_message() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        first = Frame(Opcode.TEXT, b"the first half", fin=False).serialize(mask=True)
        socket.transport.write(first + Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000
        await listener.gone.wait()
        assert listener.messages == []

    conversing(script)


def test_text_that_is_not_utf_8_just_before_a_close_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
        socket.transport.write(_frame(Opcode.TEXT, b"\xff\xfe") + _frame(Opcode.TEXT, b"\xff") + close)
        await asyncio.wait_for(listener.gone.wait(), 5)
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    conversing(script)
    assert "InvalidState" not in caplog.text
    assert not caplog.records


@pytest.mark.parametrize("directly", [True, False])
def test_text_that_is_not_utf_8_is_one_line_in_the_log(directly: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def going() -> None:
        listener = Listener()
        if directly:
            listener.directly.set()
        async with listening(listener, "info") as url, connect(url, compression=None) as socket:
            socket.transport.write(_frame(Opcode.TEXT, b"\xff\xfe"))
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1007
            listener.directly.set()
            await listener.gone.wait()

    run(going())
    assert len([record for record in caplog.records if "UTF-8" in record.getMessage()]) == 1
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


def test_a_refused_handshake_is_not_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def refuse(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"error": "no"}, status_code=403))

    async def going() -> None:
        listener = Listener()
        listener.serve = refuse  # type: ignore[method-assign]
        async with listening(listener, "info") as url:
            for _ in range(2):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(url)
                assert refused.value.response.status_code == 403
                assert refused.value.response.body == b'{"error":"no"}'

    run(going())
    assert caplog.text.count(" 403") == 2
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def _frame(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=True)


def test_what_can_not_be_sent_at_once_is_refused() -> None:
    async def script(listener: Listener, socket: ClientConnection) -> None:
        await socket.send("hello")
        await listener.until(lambda: bool(listener.taken))
        assert listener.socket is not None
        sent = 0
        # The client does not read, so the way there fills up.
        while listener.socket.send_now(bytes(100_000)):
            sent += 1
            assert sent < 1000
        for _ in range(sent):
            assert await socket.recv() == bytes(100_000)
        await listener.socket.writable.wait()
        assert listener.socket.send_now("there is room again")
        assert await socket.recv() == "there is room again"
        await socket.close()
        await listener.gone.wait()
        assert not listener.socket.send_now("nobody is there")

    conversing(script)


def test_pings_of_a_client_that_does_not_read_are_not_answered_one_by_one() -> None:
    """Each pong would be kept until the client reads."""

    async def script(listener: Listener, socket: ClientConnection) -> None:
        await socket.send("hello")
        await listener.until(lambda: bool(listener.taken))
        server = listener.socket
        assert server is not None
        socket.transport.pause_reading()
        await _fill(server)
        waiting = server.transport.get_write_buffer_size()
        pinged = [await socket.ping(b"%0125d" % number) for number in range(2000)]
        await socket.send("after the pings")
        await listener.until(lambda: listener.messages[-1] == "after the pings")
        assert server.transport.get_write_buffer_size() == waiting
        socket.transport.resume_reading()
        reading = asyncio.create_task(_receive_all(socket))
        # The pong to the last is one to all before it.
        await pinged[-1]
        reading.cancel()

    conversing(script)


async def _fill(server: DirectWebSocket) -> None:
    """Send until the client, which does not read, keeps it from going on."""
    await _until(lambda: not server.send_now(bytes(100_000)))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing says when
        await asyncio.sleep(0.001)


async def _receive_all(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


def test_a_client_that_reads_neither_its_messages_nor_the_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a transport waits until everything has been read."""
    monkeypatch.setattr(websocket_module, "CLOSE_WAIT_S", 0.1)

    async def script(listener: Listener, socket: ClientConnection) -> None:
        await socket.send("hello")
        await listener.until(lambda: bool(listener.taken))
        server = listener.socket
        assert server is not None
        socket.transport.pause_reading()
        await _fill(server)
        # The close, which the application returns after, is behind what is unread.
        socket.transport.write(_frame(Opcode.CLOSE, b"\x03\xe8"))
        await listener.gone.wait()
        await _until(lambda: server.disconnected)
        assert server.transport.get_write_buffer_size() == 0
        socket.transport.abort()

    conversing(script)


def test_one_turn_is_bounded_however_small_the_frames_are() -> None:
    """Before, a turn took all that had been received: tens of thousands of frames."""
    frame = _frame(Opcode.BINARY, b"x")

    async def script(listener: Listener, socket: ClientConnection) -> None:
        count = 100_000
        socket.transport.write(frame * count)
        await listener.until(lambda: len(listener.messages) == count)
        assert max(map(len, listener.taken)) <= websocket_module.TURN_BYTES // len(frame) + 1

    conversing(script)


def test_what_is_left_of_a_turn_is_taken_once_more_may_come() -> None:
    frame = _frame(Opcode.BINARY, b"x")

    async def script(listener: Listener, socket: ClientConnection) -> None:
        count = 10_000
        listener.may_go_on = False
        socket.transport.write(frame * count)
        await listener.until(lambda: bool(listener.taken))
        assert len(listener.messages) < count
        assert listener.socket is not None
        while len(listener.messages) < count:
            before = len(listener.taken)
            listener.socket.resume()
            await listener.until(lambda before=before: len(listener.taken) > before)  # type: ignore[misc]
        assert len(listener.messages) == count
        # For the close.
        listener.may_go_on = True
        listener.socket.resume()

    conversing(script)


def test_messages_that_are_not_finished_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "MAX_UNFINISHED_BYTES", 250_000)

    async def scenario() -> None:
        listener = Listener()
        async with listening(listener) as url, connect(url) as first, connect(url) as second, connect(url) as third:
            listener.directly.set()
            for client in (first, second, third):
                begun = Frame(Opcode.BINARY, bytes(100_000), fin=False).serialize(mask=True)
                client.transport.write(begun)
                await asyncio.sleep(0.1)
            await asyncio.wait_for(first.wait_closed(), 10)
            third.transport.write(Frame(Opcode.CONT, b"").serialize(mask=True))
            await listener.until(lambda: bytes(100_000) in listener.messages)

    run(scenario(), 20)
