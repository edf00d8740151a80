"""One WebSocket: reads messages, has its translator turn them into commands, carries these out, writes what is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streaming_asr.events import Done, Event, Final, Warning
from streaming_asr.protocols.base import (
    GOING_AWAY,
    INTERNAL,
    POLICY,
    RESTART,
    TOO_BIG,
    Audio,
    Clear,
    Close,
    Command,
    Configure,
    Failure,
    Finalize,
    Last,
    Open,
    Opened,
    Send,
    Stop,
    Translator,
)
from streaming_asr.server.metrics import SessionClock
from streaming_asr.server.outbox import Outbox, SlowReader
from streaming_asr.server.service import Refused, Service
from streaming_asr.session import Session, SessionStopped
from streaming_asr.settings import OptionError

logger = logging.getLogger(__name__)

SLICE_S = 0.5
"""Audio is heard in slices of this length, so that one large message does not keep other sessions waiting."""
METERED_MS = 1000
"""Audio that a connection counts before the metrics do."""
CLOSE_WAIT_S = 5.0
"""How long a client may take to read the last messages and answer the close."""
HELD_MARGIN_S = 15.0
"""Room above the longest utterance, below which the bound on held audio would block for ever."""


class Connection:
    """Runs one connection until either side ends it.

    Args:
        websocket: accepted.
        protocol: name of the protocol, for metrics.
    """

    def __init__(self, websocket: WebSocket, translator: Translator, service: Service, protocol: str) -> None:
        self._websocket = websocket
        self._translator = translator
        self._service = service
        self._protocol = protocol
        self._outbox = Outbox(service.options.max_unread_events)
        self._session: Session | None = None
        self._clock = SessionClock(service.metrics)
        self._room = asyncio.Event()
        """Set whenever decodes may have freed held audio."""
        self._ending: Failure | None = None
        """Why the server ends the session, told once what is pending has been transcribed."""
        self._hearing = False
        """Whether the session waits for what the voice detector asked."""
        self._unmetered_ms = 0
        """Audio that the metrics do not know of yet."""
        self._closing = asyncio.Event()
        self._idle_timeout_s = service.options.idle_timeout_s
        self._expiry: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None
        """Since when the client has sent nothing, monotonic seconds; None while the server is busy with a message."""

    @property
    def held_s(self) -> float:
        """Seconds of audio the session keeps for decoding."""
        return self._session.held_s if self._session is not None else 0.0

    def meter(self) -> None:
        """Tell the metrics of the audio heard: for each chunk it would cost too much."""
        self._service.metrics.audio_seconds.inc(self._unmetered_ms / 1000)
        self._unmetered_ms = 0

    async def run(self) -> None:
        """Serve the client; returns when the socket is closed. Everything held is released, however it ends."""
        reader = asyncio.create_task(self._read(), name="read")
        writer = asyncio.create_task(self._write(), name="write")
        idle = asyncio.create_task(self._watch_idle(), name="watch for idleness")
        closing = asyncio.create_task(self._closing.wait(), name="watch for the close")
        tasks = (reader, writer, idle, closing)
        try:
            await asyncio.wait((reader, closing), return_when=asyncio.FIRST_COMPLETED)
            # The client reads what is left and answers the close, or is cut off.
            await asyncio.wait((reader,), timeout=CLOSE_WAIT_S)
        finally:
            if self._expiry is not None:
                self._expiry.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._drop_session()

    def end(self, failure: Failure) -> None:
        """End the session for a reason of the server's: what was heard is transcribed, then the client is told why."""
        session = self._session
        if self._ending is not None or (session is not None and session.stopped):
            return
        self._ending = failure
        self._room.set()
        if session is None:
            self._tell(self._failed(failure))
        elif not self._hearing:
            self._stop(session)

    def _stop(self, session: Session) -> None:
        self._happened(session.stop(time.monotonic()))
        self._service.update(session)

    def warn(self, warning: Warning) -> None:
        """Tell the client something; the session goes on."""
        if self._session is not None and not self._session.done:
            self._happened([warning])

    async def _read(self) -> None:
        try:
            await self._carry_out(self._translator.connected())
            while True:
                message = await self._receive()
                if message is not None:
                    await self._carry_out(self._translator.received(message))
        except WebSocketDisconnect:
            return
        except Exception:
            logger.exception("A connection broke")
            self._fail(Failure("internal", "The server failed; its log says more.", INTERNAL))
            await asyncio.Event().wait()

    async def _receive(self) -> str | bytes | None:
        """The next message; None when it is not to be acted on."""
        options = self._service.options
        self._waiting_since = time.monotonic()
        message = await self._websocket.receive()
        self._waiting_since = None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if self._closing.is_set() or self._ending is not None:
            return None
        text: str | None = message.get("text")
        payload: str | bytes = text if text is not None else message["bytes"]
        if len(payload) > options.max_message_bytes:
            told = f"A message of {len(payload)} bytes; send at most {options.max_message_bytes} at once."
            self.end(Failure("message_too_big", told, TOO_BIG))
            return None
        return payload

    async def _watch_idle(self) -> None:
        """End the session when the client has been silent too long. While it is the server that does not read, no
        time counts."""
        while True:
            timeout = self._idle_timeout_s
            waited = time.monotonic() - self._waiting_since if self._waiting_since is not None else 0.0
            if waited >= timeout:
                told = f"Nothing came for {timeout:g} s; send audio, silence or pings to keep a session open."
                self.end(Failure("idle", told, POLICY))
                return
            await asyncio.sleep(timeout - waited)

    async def _write(self) -> None:
        while True:
            item = await self._outbox.get()
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

    async def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Audio):
                if self._session is not None and self._ending is None:
                    await self._with_session(self._session, command)
            elif isinstance(command, Send | Close):
                self._tell([command])
            elif isinstance(command, Last):
                self._last(command)
            elif isinstance(command, Open):
                await self._carry_out(self._open(command))
            elif self._session is not None and self._ending is None:
                await self._with_session(self._session, command)

    def _last(self, command: Last) -> None:
        self._idle_timeout_s = max(self._idle_timeout_s, command.idle_s)
        minutes = command.life_s / 60
        failure = Failure("session_expired", f"A session lasts {minutes:g} minutes; open a new one.", GOING_AWAY)
        self._expiry = asyncio.get_running_loop().call_later(command.life_s, self.end, failure)

    def _open(self, command: Open) -> list[Command]:
        self._drop_session()
        try:
            session = self._service.open(command.options, self._decoded)
        except Refused as refused:
            failure = refused.failure
            self._service.metrics.refusals.labels(failure.code).inc()
            return self._failed(Failure(failure.code, failure.message, failure.close or POLICY))
        self._session = session
        self._service.metrics.sessions.labels(self._protocol).inc()
        self._service.metrics.sessions_total.labels(self._protocol).inc()
        return self._translator.opened(Opened(session.key, session.options, self._service.recognizer.capabilities))

    async def _with_session(self, session: Session, command: Command) -> None:
        try:
            if isinstance(command, Audio):
                await self._hear(session, command.data)
                return
            if isinstance(command, Configure):
                self._happened(session.configure(time.monotonic(), **command.changes))
                await self._carry_out(self._translator.configured(session.options))
            elif isinstance(command, Finalize):
                self._happened(session.finalize(time.monotonic()))
            elif isinstance(command, Clear):
                self._happened(session.clear(time.monotonic()))
            elif isinstance(command, Stop):
                self._happened(session.stop(time.monotonic()))
        except OptionError as error:
            self._tell(self._failed(Failure("bad_option", str(error))))
        except SessionStopped as error:
            self._tell(self._failed(Failure("stopped", f"{error}.")))
        self._service.update(session)

    async def _hear(self, session: Session, data: bytes) -> None:
        """Feed audio, no faster than decoding frees the audio held."""
        size = int(session.bytes_per_second * SLICE_S)
        if len(data) <= size:
            await self._hear_piece(session, data)
            return
        for piece in _slices(data, size):
            if not await self._hear_piece(session, piece):
                return
            await asyncio.sleep(0)

    async def _hear_piece(self, session: Session, piece: bytes | memoryview) -> bool:
        """Returns whether the session goes on."""
        while session.held_s > self._held_bound(session) and self._ending is None and not session.done:
            self._room.clear()
            await self._room.wait()
        if self._ending is not None or session.done:
            return False
        before = session.audio_ms
        self._hearing = True
        events = await self._service.ears.answered(session.receiving(piece, time.monotonic()))
        self._hearing = False
        self._unmetered_ms += session.audio_ms - before
        if self._unmetered_ms >= METERED_MS:
            self.meter()
        if events:
            self._happened(events)
        if self._ending is not None:
            self._stop(session)
            return False
        self._service.update(session)
        longest = self._service.options.max_session_s
        if session.audio_ms > longest * 1000:
            told = f"The stream has reached {longest:g} s, the longest allowed; open a new session to go on."
            self.end(Failure("session_too_long", told, POLICY))
        return self._ending is None

    def _held_bound(self, session: Session) -> float:
        longest = session.options.max_utterance_s + HELD_MARGIN_S
        return max(self._service.options.max_held_s, longest) * session.tracks

    def _decoded(self, events: Sequence[Event]) -> None:
        """The runner brings what decodes made known."""
        self._happened(events)
        if any(isinstance(event, Final) for event in events):
            self._room.set()

    def _happened(self, events: Sequence[Event]) -> None:
        self._clock.tell(events, time.monotonic())
        if self._ending is not None and any(isinstance(event, Done) for event in events):
            events = [event for event in events if not isinstance(event, Done)]
            self._tell([*self._translator.happened(events), *self._failed(self._ending)])
        else:
            self._tell(self._translator.happened(events))

    def _failed(self, failure: Failure) -> list[Command]:
        self._service.metrics.errors.labels(failure.code).inc()
        return self._translator.failed(failure)

    def _fail(self, failure: Failure) -> None:
        """Tell and close at once; nothing more is transcribed."""
        self._drop_session()
        self._tell(self._failed(failure))

    def _tell(self, commands: Sequence[Command]) -> None:
        try:
            for command in commands:
                if isinstance(command, Send | Close):
                    self._outbox.put(command)
                if isinstance(command, Close):
                    self._closing.set()
        except SlowReader:
            self._outbox.clear()
            unread = self._service.options.max_unread_events
            self._fail(Failure("slow_reader", f"{unread} messages are unread; read events while you send.", POLICY))

    def _drop_session(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self.meter()
            self._service.remove(session)
            self._service.metrics.sessions.labels(self._protocol).dec()
            self._room.set()


def _slices(data: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), size):
        yield view[start : start + size]


SHUTDOWN = Failure("restarting", "The server is shutting down; connect again shortly.", RESTART)
