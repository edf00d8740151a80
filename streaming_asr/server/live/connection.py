"""One WebSocket: reads messages into a conversation, does what that asks for, writes what it sends."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streaming_asr.core.events import Event, SessionWarning
from streaming_asr.protocols.base import Close, Send, Translator
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.server.live.conversation import Action, AskTurn, AskVoice, Conversation, ConversationLimits
from streaming_asr.server.live.outbox import Outbox, SlowReader
from streaming_asr.server.live.websocket import CLOSE_WAIT_S, direct_socket
from streaming_asr.server.metrics import ConversationMetrics
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.service import Service

logger = logging.getLogger(__name__)

SHUTDOWN = Failure(FailureKind.RESTARTING, "The server is shutting down; connect again shortly.")


class Connection:
    """Runs one connection until either side ends it. Messages are acted on as they come, by plain calls.

    Args:
        websocket: accepted.
        protocol: name of the protocol, for metrics.
    """

    def __init__(self, websocket: WebSocket, translator: Translator, service: Service, protocol: str) -> None:
        self._websocket = websocket
        self._service = service
        self._conversation = Conversation(
            translator,
            service,
            _limits(service.options),
            ConversationMetrics(service.metrics, protocol),
            self._decoded,
            self._session_broke,
        )
        self._outbox = Outbox(service.options.max_unread_events, service.options.max_unread_bytes)
        self._loop = asyncio.get_running_loop()
        self._socket = direct_socket(websocket)
        self._timer: asyncio.TimerHandle | None = None
        self._may_read = asyncio.Event()
        """Cleared while the conversation can't take more messages."""
        self._may_read.set()
        self._closing = asyncio.Event()
        """Set once the last message is in the outbox."""
        self._writing = False
        """Whether a message from the outbox is on its way."""

    @property
    def held_s(self) -> float:
        """Seconds of audio the session keeps for decoding."""
        return self._conversation.held_s

    def meter(self) -> None:
        """Report to the metrics all audio received so far."""
        self._conversation.meter()

    async def run(self) -> None:
        """Serve the client; returns when the socket is closed. Everything held is released, however it ends."""
        reader = asyncio.create_task(self._read(), name="read")
        writer = asyncio.create_task(self._write(), name="write")
        closing = asyncio.create_task(self._closing.wait(), name="watch for the close")
        tasks = (reader, writer, closing)
        try:
            await asyncio.wait((reader, closing), return_when=asyncio.FIRST_COMPLETED)
            # The client reads what is left and answers the close, or is cut off.
            await asyncio.wait((reader,), timeout=CLOSE_WAIT_S)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._socket is not None and not reader.done():
                self._socket.cut_off()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._conversation.lost()
            # The connection is part of reference cycles, so that its messages would live until these are collected.
            self._outbox.clear()

    def end(self, failure: Failure) -> None:
        """End the session for a reason of the server's: what was received is transcribed, then the failure is sent."""
        self._conversation.end(failure, time.monotonic())
        self._act()

    def warn(self, warning: SessionWarning) -> None:
        """Send the client a warning; the session goes on."""
        self._conversation.warn(warning, time.monotonic())
        self._act()

    async def _read(self) -> None:
        """Receive messages until the client is gone; those that the socket gives directly do not come through here."""
        if self._socket is not None:
            self._socket.direct(self._receive, self._service.fair_loop, self._give_up)
        self._conversation.start(time.monotonic())
        self._act()
        self._set_timer()
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            if not self._receive([text if text is not None else message["bytes"]]):
                await self._may_read.wait()
            await asyncio.sleep(0)

    def _receive(self, messages: Sequence[str | bytes]) -> bool:
        """Give messages to the conversation; returns whether more may come now."""
        self._conversation.receive(messages, time.monotonic())
        self._act()
        if self._conversation.reading:
            return True
        self._may_read.clear()
        return False

    def _voice_answered(self, answer: Any) -> None:
        self._conversation.voice_answered(answer, time.monotonic())
        self._act()

    def _voice_failed(self) -> None:
        self._conversation.voice_failed()
        self._act()

    def _turn_judged(self, asked: AskTurn, probability: float) -> None:
        self._conversation.turn_judged(asked, probability, time.monotonic())
        self._act()

    def _resume(self) -> None:
        self._conversation.resume(time.monotonic())
        self._act()

    def _decoded(self, events: Sequence[Event]) -> None:
        self._conversation.decoded(events, time.monotonic())
        self._act()

    def _session_broke(self, error: Exception) -> None:
        self._conversation.session_broke()
        self._act()

    def _tick(self) -> None:
        self._conversation.tick(time.monotonic())
        self._act()
        self._set_timer()

    def _set_timer(self) -> None:
        now = time.monotonic()
        deadline = self._conversation.next_deadline(now)
        self._timer = self._loop.call_later(max(0.0, deadline - now), self._tick) if deadline is not None else None

    def _act(self) -> None:
        """Do what the conversation asks for. Call it after each input. A fault ends this connection alone."""
        try:
            self._act_once()
        except Exception:
            logger.exception("A connection failed")
            self._give_up()

    def _give_up(self) -> None:
        """Send why the session can't go on, if that can be sent, and close."""
        self._outbox.clear()
        self._conversation.broken("its messages can't be sent")
        try:
            self._carry_out(self._conversation.take_actions())
        except Exception:
            logger.exception("A connection could not be closed in order")
        self._closing.set()

    def _act_once(self) -> None:
        actions = self._conversation.take_actions()
        try:
            self._carry_out(actions)
        except SlowReader:
            self._outbox.clear()
            self._conversation.too_much_unread()
            # It may have been about to close for another reason.
            self._carry_out([action for action in actions if isinstance(action, Close)])
            self._carry_out(self._conversation.take_actions())
        if not self._may_read.is_set() and self._conversation.reading:
            self._may_read.set()
            if self._socket is not None:
                self._socket.resume()

    def _carry_out(self, actions: Sequence[Action]) -> None:
        """Carry out actions, in order.

        Raises:
            SlowReader: too much is unread.
        """
        for action in actions:
            if isinstance(action, Send):
                self._send(action)
            elif isinstance(action, AskVoice):
                self._service.voice.ask(action.query, self._voice_answered, self._voice_failed)
            elif isinstance(action, AskTurn):
                self._service.turns.ask(action.question, functools.partial(self._turn_judged, action))
            elif isinstance(action, Close):
                self._outbox.put(action)
                self._closing.set()
            else:
                self._loop.call_soon(self._resume)

    def _send(self, message: Send) -> None:
        """At once if that can be, or when what is before it has gone.

        Raises:
            SlowReader: too much is unread.
        """
        ahead = self._writing or len(self._outbox)
        if ahead or self._socket is None or not self._socket.send_now(message.message):
            self._outbox.put(message)

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
            if isinstance(item, Close):
                if self._websocket.application_state is WebSocketState.CONNECTED:
                    await self._websocket.close(item.code, item.reason[:120])
                return
            try:
                if isinstance(item.message, str):
                    await self._websocket.send_text(item.message)
                else:
                    await self._websocket.send_bytes(item.message)
            except (WebSocketDisconnect, RuntimeError, OSError):
                return


def _limits(options: ServerOptions) -> ConversationLimits:
    return ConversationLimits(
        max_message_bytes=options.max_message_bytes,
        max_session_s=options.max_session_s,
        max_held_s=options.max_held_s,
        max_unread=options.max_unread_events,
        max_unread_bytes=options.max_unread_bytes,
        idle_timeout_s=options.idle_timeout_s,
    )
