"""One WebSocket: reads messages into a conversation, and writes what that sends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streaming_asr.protocols.base import Close, Send
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.server.live.fair_loop import Account
from streaming_asr.server.live.limits import ConversationLimits
from streaming_asr.server.live.live_conversation import LiveConversation
from streaming_asr.server.live.outbox import Outbox
from streaming_asr.server.live.websocket import CLOSE_WAIT_S, direct_socket
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas.link import Link
from streaming_asr.server.service import Service

logger = logging.getLogger(__name__)

SHUTDOWN = Failure(FailureKind.RESTARTING, "The server is shutting down; connect again shortly.")
NO_STATUS = 1005
"""Of a close without a code, RFC 6455 section 7.4.1."""
MEANT = (CloseCode.NORMAL, CloseCode.GOING_AWAY)
"""Close codes of a client that does not come back; also no code, where that is not reported of lost connections."""


class Connection:
    """Runs one connection until either side ends it. Messages are acted on as they come, by plain calls.

    Args:
        websocket: accepted.
        live: has the conversation that begins here; the client may claim another.
        link: to other processes of this server, which may have the session that the client claims.
        account: what the event loop does for the client is charged to it.
    """

    def __init__(
        self,
        websocket: WebSocket,
        live: LiveConversation,
        service: Service,
        link: Link | None,
        account: Account,
    ) -> None:
        self._websocket = websocket
        self._live: LiveConversation | None = live
        """None once another connection has the conversation."""
        self._service = service
        self._link = link
        self._outbox = Outbox(service.options.max_unread_events, service.options.max_unread_bytes)
        self._socket = direct_socket(websocket)
        self._account = account
        self._may_read = asyncio.Event()
        """Cleared while the conversation can't take more messages."""
        self._may_read.set()
        self._closing = asyncio.Event()
        """Set once the last message is in the outbox."""
        self._writing = False
        """Whether a message from the outbox is on its way."""
        self._close_code: int | None = None
        """As the ASGI server reports it."""
        self._tasks: Sequence[asyncio.Task[object]] = ()

    @property
    def live(self) -> LiveConversation | None:
        return self._live

    async def run(self) -> None:
        """Serve the client; returns when the socket is closed. Everything held is released, however it ends."""
        reader = asyncio.create_task(self._read(), name="read")
        writer = asyncio.create_task(self._write(), name="write")
        closing = asyncio.create_task(self._closing.wait(), name="watch for the close")
        self._tasks = (reader, writer, closing)
        try:
            await asyncio.wait((reader, closing), return_when=asyncio.FIRST_COMPLETED)
            # The client reads what is left and answers the close, or is cut off.
            await asyncio.wait((reader,), timeout=CLOSE_WAIT_S)
            if self._closing.is_set():
                await asyncio.wait((writer,), timeout=CLOSE_WAIT_S)
            await self._answer_to_close()
        finally:
            if self._socket is not None and not reader.done():
                self._socket.cut_off()
            self._cancel_tasks()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            live, self._live = self._live, None
            if live is not None:
                live.leave(for_good=self._client_left())
            # The connection is part of reference cycles, so that its messages would live until these are collected.
            self._outbox.clear()

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _answer_to_close(self) -> None:
        """Wait until the client has received the end of a session that it could resume, or is gone."""
        if self._socket is not None and self._live is not None and self._live.resumable:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._socket.ended.wait(), CLOSE_WAIT_S)

    def _client_left(self) -> bool:
        """Whether the client has received everything, or closed and does not come back."""
        if self._socket is None:
            return self._close_code in MEANT
        if self._socket.client_close is None:
            return False
        return self._closing.is_set() or self._socket.client_close in (*MEANT, NO_STATUS)

    # As the seat of a live conversation

    def send(self, message: Send) -> None:
        """At once if that can be, or when what is before it has gone.

        Raises:
            SlowReader: too much is unread.
        """
        ahead = self._writing or len(self._outbox)
        if ahead or self._socket is None or not self._socket.send_now(message.message):
            self._outbox.put(message)

    def close(self, close: Close) -> None:
        self._outbox.put(close)
        self._closing.set()

    def hang_up(self) -> None:
        self._closing.set()

    def drop_unsent(self) -> None:
        self._outbox.clear()

    def read_on(self) -> None:
        if not self._may_read.is_set():
            self._may_read.set()
            if self._socket is not None:
                self._socket.resume()

    @property
    def wait_s(self) -> float:
        return self._service.fair_loop.wait_s(self._account)

    def charge(self, cost_s: float) -> None:
        self._account.charge(cost_s)

    def ask_turn(self, turn: Callable[[], None]) -> None:
        self._service.fair_loop.ask(turn, time.perf_counter(), self._account)

    def move(self, live: LiveConversation) -> None:
        self._live = live

    def pass_on(self, token: str) -> bool:
        if self._link is None or self._socket is None or not self._link.has_claimed(token):
            return False
        if (released := self._socket.release()) is None:
            return False
        self._live = None
        self._outbox.clear()
        self._link.pass_on(token, *released)
        return True

    def cut_off(self) -> None:
        self._live = None
        self._outbox.clear()
        # There is nothing left to send, and no close to wait for.
        self._cancel_tasks()
        if self._socket is not None:
            self._socket.cut_off()

    def give_place(self) -> None:
        """End at once, without a session: others need the connection's place."""
        live = self._live
        self.cut_off()
        if live is not None:
            live.drop()

    @property
    def has_session(self) -> bool:
        return self._live is not None and self._live.conversation.has_session

    async def _read(self) -> None:
        try:
            await self._read_all()
        except Exception:
            logger.exception("The reader of a connection failed")
            self._give_up()
            # The client's answer to the close, or its end.
            while (await self._websocket.receive())["type"] != "websocket.disconnect":
                pass

    async def _read_all(self) -> None:
        """Receive messages until the client is gone; those that the socket gives directly do not come through here."""
        if self._socket is not None:
            self._socket.direct(self._receive, self._service.fair_loop, self._give_up, self._account, self._outlives)
        if self._live is not None:
            self._live.start(self)
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._close_code = message.get("code")
                return
            text: str | None = message.get("text")
            if not self._receive([text if text is not None else message["bytes"]]):
                await self._may_read.wait()
            await asyncio.sleep(0)

    def _outlives(self) -> bool:
        """Whether the session goes on without its client, so that what that sent last is not for nothing."""
        return self._live is not None and self._live.resumable

    def _receive(self, messages: Sequence[str | bytes]) -> bool:
        """Give messages to the conversation; returns whether more may come now."""
        # What comes after the end, or after another connection took over, is not for the conversation.
        if self._live is None or self._live.receive(messages):
            return True
        self._may_read.clear()
        return False

    def _give_up(self) -> None:
        """A fault of the server: the session can't go on."""
        if self._live is not None:
            self._live.give_up()

    async def _write(self) -> None:
        try:
            await self._write_all()
        except Exception:
            logger.exception("A connection failed")
            self._writing = False
            self._give_up()
            await self._write_all()

    async def _write_all(self) -> None:
        while True:
            self._writing = False
            item = await self._outbox.get()
            self._writing = True
            # The client may be gone, which is no fault.
            try:
                if isinstance(item, Close):
                    if self._websocket.application_state is WebSocketState.CONNECTED:
                        await self._websocket.close(item.code, item.reason[:120])
                    return
                if isinstance(item.message, str):
                    await self._websocket.send_text(item.message)
                else:
                    await self._websocket.send_bytes(item.message)
            except (WebSocketDisconnect, RuntimeError, OSError):
                return


def conversation_limits(options: ServerOptions) -> ConversationLimits:
    """What one client may do, as the server's options say."""
    return ConversationLimits(
        max_message_bytes=options.max_message_bytes,
        max_session_s=options.max_session_s,
        max_held_s=options.max_held_s,
        max_unread=options.max_unread_events,
        max_unread_bytes=options.max_unread_bytes,
        idle_timeout_s=options.idle_timeout_s,
    )
