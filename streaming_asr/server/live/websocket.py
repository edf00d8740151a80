"""uvicorn's WebSocket, made to give a connection all messages that have arrived at once, instead of one by one.

In ASGI each message wakes a task that requests the next, and reading from the socket is stopped and started again. That
costs more than decoding a chunk of audio.

This builds on private members of uvicorn's class. `why_not_direct` checks them at start-up; where they are not as they
should be, the server runs over plain ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets import http11
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from streaming_asr.server.live.fair_loop import Account, FairLoop
from streaming_asr.server.live.relay import can_relay, relay
from streaming_asr.server.live.unfinished import Unfinished

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # `why_not_direct` says what is missing.
    WebSocketsSansIOProtocol = asyncio.Protocol  # type: ignore[assignment,misc]

logger = logging.getLogger(__name__)

Taker = Callable[[Sequence[str | bytes]], bool]
"""Takes messages; returns whether more may come now. If not, `DirectWebSocket.resume` must be called later."""

TESTED = ((0, 52, 1), (0, 54))
"""The first and the last release of uvicorn that pass `tests/support/uvicorn_versions.py`; the last with any fixes."""

CLOSE_WAIT_S = 5.0
"""How long a client may take to read the last messages and answer the close."""

TURN_BYTES = 16 * 1024
"""What a connection has of one turn; of the smallest frames, two thousand."""
MAX_HEAD_BYTES = 128 * 1024
"""Of the URL and headers of a request or handshake; a query may hold many key terms."""
# By itself 8 KiB; it is looked up when a line is read, and documented as a variable of the environment.
http11.MAX_LINE_LENGTH = MAX_HEAD_BYTES

LINGER_NOT = struct.pack("ii", 1, 0)
"""`struct linger`: on, for no time."""

MAX_KEPT_BYTES = 64 * 1024
"""Of what a client that claims a session has sent after its handshake; it comes with its first message."""
CLAIM = b"resume=claim"

_KEY = "streaming_asr.websocket"

_METHODS: Mapping[str, Sequence[str]] = {
    "connection_made": ("transport",),
    "connection_lost": ("exc",),
    "data_received": ("data",),
    "handle_close": ("event",),
    "handle_parser_exception": (),
    "handle_ping": (),
    "on_task_complete": ("task",),
    "resume_writing": (),
    "send": ("message",),
    "send_receive_event_to_app": (),
}
"""Methods that are replaced or called here -> their parameters."""
_ATTRIBUTES: Mapping[str, type] = {
    "app_state": dict,
    "close_sent": bool,
    "conn": ServerProtocol,
    "curr_msg_data_type": str,
    "disconnected": bool,
    "frames": list,
    "handshake_complete": bool,
    "handshake_initiated": bool,
    "queue": asyncio.Queue,
    "read_paused": bool,
    "transport": object,
    "writable": asyncio.Event,
}
"""Attributes of a new connection -> their types."""


class _Frames(ServerProtocol):
    """As that of websockets, but a client may close in mid-message, as RFC 6455 section 5.4 allows."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            # Of the message under way: `cur_size` until websockets 14.
            self.current_size = self.cur_size = None
        super().recv_frame(frame)


class Released(NamedTuple):
    """A connection for another process."""

    connection: socket.socket
    received: bytes
    """All that the client has sent, from its handshake on."""
    client: tuple[str, int] | None
    """The client's address, if the connection is only to this process, which speaks TLS with the client."""


class DirectWebSocket(WebSocketsSansIOProtocol):
    """As uvicorn's, until somebody calls `direct`."""

    _taker: Taker | None = None
    _on_fault: Callable[[], None] | None = None
    _fair_loop: FairLoop
    movable = False
    """Whether a client that claims a session may be given to another process; see `release`."""
    relayed_for: tuple[str, int] | None = None
    """Address of the client that another process speaks TLS with."""
    continued: bytearray | None = None
    """What a client has sent to another process, from its handshake on, which goes on here; set before it is
    connected."""
    _account: Account | None = None
    _unfinished: Unfinished[DirectWebSocket] = Unfinished()
    """Of all connections."""
    _outlives: Callable[[], bool]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        theirs = self.conn
        self.conn = _Frames(
            extensions=theirs.available_extensions, max_size=self.config.ws_max_size, logger=theirs.logger
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._unread: list[bytes] = []
        self._since: float | None = None
        """Since when data may lie in the socket, which is not read; of `time.perf_counter`."""
        self._messages: list[str | bytes] = []
        self._fragments = bytearray()
        """Of the message under way, if it comes in fragments; the first of them is in `frames` until the second."""
        self._pong = b""
        """The pong to the last ping, which waits until the client reads."""
        self._cut_off: asyncio.TimerHandle | None = None
        self._refused = False
        """Whether the client has been answered that it sent too early what can't be read."""
        self._released = False
        """Whether another process has the connection."""
        self._sent_before: bytearray | None = self.continued
        """What the client sent to another process that it had connected to, until the handshake is accepted."""
        self._kept: bytearray | None = None
        """All that a client that claims a session has sent."""
        self.ended = asyncio.Event()
        """Set once the client has closed, or answered a close, or is gone."""
        # uvicorn copies this to the scope's `state`, where `direct_socket` finds it.
        self.app_state = {**self.app_state, _KEY: self}
        super().connection_made(transport)
        if self.relayed_for is not None:
            self.client, self.scheme = self.relayed_for, "wss"
        if self._sent_before is not None:
            end = self._sent_before.find(b"\r\n\r\n") + 4
            handshake = bytes(self._sent_before[:end])
            del self._sent_before[:end]
            self._receive(handshake)

    @property
    def client_close(self) -> int | None:
        """The code with which the client closed, or answered a close; None if it did not."""
        received = self.conn.close_rcvd
        return None if received is None else int(received.code)

    def direct(
        self,
        taker: Taker,
        fair_loop: FairLoop,
        on_fault: Callable[[], None] | None = None,
        account: Account | None = None,
        outlives: Callable[[], bool] = lambda: True,
    ) -> None:
        """Have a function take the messages from now on. Those that came before, and the end, are still `receive`d.

        Args:
            on_fault: is called when a turn fails, and has to close the connection; without it, that is cut off.
            account: of the client, with the fair loop.
            outlives: whether messages still count once the client is gone.
        """
        self._taker, self._fair_loop, self._on_fault, self._account = taker, fair_loop, on_fault, account
        self._outlives = outlives

    def release(self) -> Released | None:
        """Give up the connection, for another process of this server.

        Returns:
            None if it can't be given up: the client has sent too much, or has not read everything, or there are too
            many relays.
        """
        transport = self.transport
        ours: socket.socket | None = transport.get_extra_info("socket")
        if self._kept is None or ours is None or transport.get_write_buffer_size() or transport.is_closing():
            return None
        of_tls = transport.get_extra_info("sslcontext") is not None
        if of_tls and not can_relay():
            return None
        self._released = True
        self._pause()
        received = bytes(self._kept) + b"".join(self._unread)
        self._unread.clear()
        if not of_tls:
            passed_on = socket.socket(fileno=os.dup(ours.fileno()))
            # Later: what is being handled now may still use it. Closing one of two descriptors sends nothing.
            self.loop.call_soon(transport.abort)
            return Released(passed_on, received, None)
        passed_on = relay(transport)
        # uvicorn closes it when the application has returned.
        self.transport = _Nowhere()
        self.connection_lost(ConnectionAbortedError("another process serves it"))
        return Released(passed_on, received, self.client or ("", 0))

    def resume(self) -> None:
        """More messages may come."""
        if self._released:
            return
        if self._unread:
            self._fair_loop.ask(self._take_turn, self._since or time.perf_counter(), self._account)
            return
        self._since = None
        self._read_on()

    def send_now(self, message: str | bytes) -> bool:
        """Send a message; returns False, and does nothing, if it must wait or there is nobody to send it to."""
        over = self.close_sent or self.disconnected or self.transport.is_closing()
        if over or not self.handshake_complete or not self.writable.is_set():
            return False
        try:
            if isinstance(message, str):
                self.conn.send_text(message.encode())
            else:
                self.conn.send_binary(message)
        except InvalidState:
            return False
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def data_received(self, data: bytes) -> None:
        if self._sent_before is not None:
            self._sent_before += data
            if len(self._sent_before) > MAX_KEPT_BYTES:
                self.transport.pause_reading()
            return
        if self._taker is None:
            self._receive(data)
            return
        if self._unread:
            # Its turn has not come yet: what comes from here on is read all at once, after it.
            self._pause()
        else:
            self._fair_loop.ask(self._take_turn, self._since or time.perf_counter(), self._account)
            self._since = None
        self._unread.append(data)

    def _receive(self, data: bytes) -> None:
        """As uvicorn does, which does not answer a handshake that it can't read."""
        if self.movable and not self.handshake_initiated and CLAIM in data.partition(b"\r\n")[0]:
            self._kept = bytearray()
        self._keep(data)
        if self.handshake_initiated or self.disconnected:
            super().data_received(data)
            self._count_unfinished()
            return
        with contextlib.suppress(UnicodeError):
            super().data_received(data)
        if not self.handshake_initiated:
            # Its head is complete, or it would not come here.
            answer = b"".join(self.conn.data_to_send())
            reason = getattr(self.conn.handshake_exc, "__cause__", None) or "it can't be read"
            refusal = plain_response(HTTPStatus.BAD_REQUEST, f"The WebSocket handshake is not valid: {reason}.")
            self.transport.write(answer or refusal)
            self.transport.close()

    def cut_off(self) -> None:
        """Close the socket at once, whatever the client has not read."""
        if self.disconnected or self._released:
            return
        with contextlib.suppress(AttributeError, OSError):
            # By a reset: else the system keeps what is unread, and goes on asking whether the client will read it.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        # Closing a transport waits until the client has read everything, without a limit.
        if not self.disconnected:
            self._cut_off = self.loop.call_later(CLOSE_WAIT_S, self.cut_off)

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        # It came before the handshake was answered, so that there is nothing to close by a frame.
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        reason = f"What follows the WebSocket handshake can't be read: {self.conn.parser_exc}."
        self.transport.write(plain_response(HTTPStatus.BAD_REQUEST, reason))
        self.handshake_complete = self._refused = True
        self.transport.close()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self.ended.set()

    def handle_cont(self, event: Frame) -> None:
        """Join fragments as they come: a list of them would take many times their size, and empty ones have no end."""
        self._fragments += self.frames[0] if self.frames else b""
        self._fragments += event.data
        self.frames = []
        if event.fin:
            self.frames = [bytes(self._fragments)]
            self._fragments = bytearray()
            self.send_receive_event_to_app()

    def _count_unfinished(self) -> None:
        """Close the connection whose message has been unfinished for the longest, if all have too much of them."""
        size = len(self.conn.reader.buffer) + len(self._fragments) + sum(map(len, self.frames))
        first = self._unfinished.set(self, size)
        if first is not None:
            logger.warning("A connection is closed: too much is kept of messages that are not finished")
            first._drop_unfinished()

    def _drop_unfinished(self) -> None:
        self._forget_unfinished()
        self._unread.clear()
        self.cut_off()

    def _forget_unfinished(self) -> None:
        # Now: a connection is part of reference cycles, so that it would live until these are collected.
        self._unfinished.set(self, 0)
        self.conn.reader.buffer.clear()
        self._fragments, self.frames = bytearray(), []

    def handle_ping(self) -> None:
        """Answer pings; while the client does not read, only the last of them, as RFC 6455 section 5.5.3 allows."""
        output = self.conn.data_to_send()
        if not self.writable.is_set():
            pongs = [frame for frame in output if _is_pong(frame)]
            output = [frame for frame in output if not _is_pong(frame)]
            self._pong = pongs[-1] if pongs else self._pong
        if output:
            self.transport.write(b"".join(output))

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not (self.close_sent or self.transport.is_closing()):
            self.transport.write(pong)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
        self.ended.set()
        try:
            if self._taker is not None and not self._outlives():
                self._unread.clear()
            while self._taker is not None and self._unread:
                self._take_turn()
        finally:
            super().connection_lost(exc)
            self._forget_unfinished()

    def _keep(self, data: bytes) -> None:
        if self._kept is not None:
            self._kept += data
            if len(self._kept) > MAX_HEAD_BYTES + MAX_KEPT_BYTES:
                self._kept = None

    async def send(self, message: Any) -> None:
        if self._refused:
            raise ClientDisconnected
        if self._sent_before is not None:
            await self._continue(message)
            return
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # The handshake is refused, which uvicorn would log as an error of the application.
            self.handshake_complete = True

    async def _continue(self, message: Any) -> None:
        """Accept the handshake of a client that has been sent the answer by another process."""
        transport = self.transport
        if message["type"] != "websocket.accept":
            transport.abort()
            return
        self.transport = _Nowhere()
        try:
            await super().send(message)
        finally:
            self.transport = transport
        sent, self._sent_before = self._sent_before, None
        if sent and not self.disconnected:
            if len(sent) > MAX_KEPT_BYTES:
                transport.resume_reading()
            self._receive(bytes(sent))

    def send_receive_event_to_app(self) -> None:
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        text: str | None = None
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                self._refuse_text()
                return
        if self._taker is None or self.close_sent or not self.queue.empty():
            super().send_receive_event_to_app()
            return
        self._messages.append(bytes(data) if text is None else text)
        self.frames = []

    def _refuse_text(self) -> None:
        """Close the connection of a client whose text is not UTF-8, RFC 6455 section 8.1."""
        logger.info("A text message is not UTF-8; its connection is closed")
        self.frames = []
        # The client's own close may have come behind it, and is answered already.
        with contextlib.suppress(InvalidState):
            self.conn.send_close(1007, "text must be UTF-8")
        self.handle_parser_exception()

    def _take_turn(self) -> None:
        try:
            self._take_unread()
        except Exception:
            if self._on_fault is None:
                # As the event loop does where a protocol raises; nobody else ends this connection.
                self.transport.abort()
            else:
                self._unread.clear()
                self._on_fault()
                self._read_on()
            raise

    def _take_unread(self) -> None:
        if self._taker is None or not self._unread:
            return
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        if len(data) > TURN_BYTES:
            self._unread.append(data[TURN_BYTES:])
            data = data[:TURN_BYTES]
        self._keep(data)
        super().data_received(data)
        self._count_unfinished()
        if self._messages:
            messages, self._messages = self._messages, []
            if not self._taker(messages):
                self._pause()
                return
        if self._unread:
            self._pause()
            self._fair_loop.ask(self._take_turn, time.perf_counter(), self._account)
            return
        self._read_on()

    def _read_on(self) -> None:
        if self.read_paused and not (self._released or self.transport.is_closing()):
            self.read_paused = False
            self.transport.resume_reading()

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self._since = time.perf_counter()
            self.transport.pause_reading()


class MovableWebSocket(DirectWebSocket):
    """Of a server of several processes."""

    movable = True


class _Nowhere(asyncio.Transport):
    """Takes what is not to be sent."""

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = pause_reading = resume_reading = close


def _is_pong(frame: bytes) -> bool:
    return bool(frame) and frame[0] & 0x0F == Opcode.PONG


def plain_response(status: HTTPStatus, reason: str) -> bytes:
    """A whole HTTP response, after which the connection is closed."""
    body = f"{reason}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def direct_socket(websocket: WebSocket) -> DirectWebSocket | None:
    """What is under a WebSocket, where it can give its messages directly: under other ASGI servers it can't."""
    socket: DirectWebSocket | None = websocket.scope.get("state", {}).get(_KEY)
    return socket


def why_not_direct(
    protocol: type[asyncio.Protocol] = WebSocketsSansIOProtocol, version: str = uvicorn.__version__
) -> str | None:
    """Check uvicorn for what `DirectWebSocket` needs. Call with a running event loop.

    Returns:
        What is not as it should be; None if all is.
    """
    release = tuple(int(part) for part in version.split(".") if part.isdecimal())
    first, last = TESTED
    if release < first or release[: len(last)] > last:
        tested = " to ".join(".".join(map(str, release)) for release in TESTED)
        return f"it was tested with uvicorn {tested}, and this is {version}"
    for name, parameters in _METHODS.items():
        method = getattr(protocol, name, None)
        if method is None or tuple(inspect.signature(method).parameters) != ("self", *parameters):
            return f"uvicorn {version} has no {name}({', '.join(parameters)})"
    connection = _new_connection(protocol)
    for name, kind in _ATTRIBUTES.items():
        if not (hasattr(connection, name) and isinstance(getattr(connection, name), kind)):
            return f"uvicorn {version} has no attribute {name} of type {kind.__name__}"
    return None


def _new_connection(protocol: type[asyncio.Protocol]) -> object:
    make: Callable[..., object] = protocol
    config = uvicorn.Config(Starlette(), ws="none", lifespan="off", log_config=None)
    try:
        return make(config, ServerState(), {}, asyncio.get_running_loop())
    except TypeError:
        return None
