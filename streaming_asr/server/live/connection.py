"""One WebSocket: reads messages, has its translator turn them into commands, carries these out, writes what is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streaming_asr.core.events import Done, Event, Final, Warning
from streaming_asr.core.options import OptionError
from streaming_asr.core.session import Session, SessionStopped
from streaming_asr.core.voice import Detection
from streaming_asr.protocols.base import (
    Audio,
    Clear,
    Close,
    Command,
    Configure,
    Finalize,
    Last,
    Open,
    Opened,
    Send,
    Stop,
    Translator,
)
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.server.live.outbox import Outbox, SlowReader
from streaming_asr.server.live.websocket import direct_socket
from streaming_asr.server.metrics import SessionClock
from streaming_asr.server.service import Refused, Service

logger = logging.getLogger(__name__)

SLICE_S = 0.5
"""Audio is heard in slices of this length, so that one large message does not keep other sessions waiting."""
MESSAGES_AT_ONCE = 32
"""So many are acted on before others have their turn; audio of several in a row is one."""
METERED_MS = 1000
"""Audio that a connection counts before the metrics do."""
CLOSE_WAIT_S = 5.0
"""How long a client may take to read the last messages and answer the close."""
HELD_MARGIN_S = 15.0
"""Room above the longest utterance, below which the bound on held audio would block for ever."""


class Connection:
    """Runs one connection until either side ends it.

    Messages are acted on as they come, by plain calls. While something must be waited for (what the voice detector
    asks, room for more audio, the turn of others) they are kept, and the socket is not read.

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
        self._loop = asyncio.get_running_loop()
        self._socket = direct_socket(websocket)
        self._inbox: deque[str | bytes] = deque()
        """Messages that wait; the socket is not read while there are any."""
        self._todo: deque[Command] = deque()
        """What the message before them asks, and is not done."""
        self._asking: Detection[list[Event]] | None = None
        """The session, while it waits for what the voice detector asked."""
        self._full = False
        """Whether audio waits for decodes to free what is held."""
        self._giving_way = False
        """Whether others have their turn before the next slice of a long message, or the rest of many."""
        self._caught_up = asyncio.Event()
        """Set unless messages wait."""
        self._caught_up.set()
        self._ending: Failure | None = None
        """Why the server ends the session, told once what is pending has been transcribed."""
        self._metered_ms = 0
        """Audio of the session that the metrics know of."""
        self._closing = asyncio.Event()
        self._writing = False
        """Whether a message from the outbox is on its way."""
        self._idle_timeout_s = service.options.idle_timeout_s
        self._expiry: asyncio.TimerHandle | None = None
        self._silent_since: float | None = time.monotonic()
        """Since when the client has sent nothing, monotonic seconds; None while the server is busy with a message."""

    @property
    def held_s(self) -> float:
        """Seconds of audio the session keeps for decoding."""
        return self._session.held_s if self._session is not None else 0.0

    def meter(self) -> None:
        """Tell the metrics of the audio heard: for each chunk it would cost too much."""
        if self._session is not None:
            heard_ms = self._session.audio_ms
            self._service.metrics.audio_seconds.inc((heard_ms - self._metered_ms) / 1000)
            self._metered_ms = heard_ms

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
        self._inbox.clear()
        if session is None:
            self._tell(self._failed(failure))
        elif self._asking is None:
            self._stop(session)
        self._full = False
        self._loop.call_soon(self._go_on)

    def _stop(self, session: Session) -> None:
        self._happened(session.stop(time.monotonic()))
        self._service.update(session)

    def warn(self, warning: Warning) -> None:
        """Tell the client something; the session goes on."""
        if self._session is not None and not self._session.done:
            self._happened([warning])

    async def _read(self) -> None:
        """Take messages until the client is gone; those that the socket gives directly do not come through here."""
        if self._socket is not None:
            self._socket.direct(self._take, self._service.fair_loop)
        self._todo.extend(self._translator.connected())
        self._go_on()
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | None = message.get("text")
            if not self._take([text if text is not None else message["bytes"]]):
                await self._caught_up.wait()
            await asyncio.sleep(0)

    def _take(self, messages: Sequence[str | bytes]) -> bool:
        """Act on messages, or keep them; returns whether more may come now."""
        if self._closing.is_set() or self._ending is not None:
            return True
        self._inbox.extend(messages)
        self._go_on()
        if self._inbox:
            self._caught_up.clear()
            return False
        return True

    def _go_on(self, answer: list[float] | None = None) -> None:
        """Do what the client asked for, until something must be waited for.

        Args:
            answer: to what the voice detector asked.
        """
        try:
            if answer is not None:
                self._listen(answer)
            acted_on = 0
            while not self._waiting:
                if self._todo:
                    self._carry_out(self._todo.popleft())
                elif not self._inbox:
                    break
                elif acted_on == MESSAGES_AT_ONCE:
                    self._give_way()
                else:
                    acted_on += 1
                    self._todo.extend(self._asked())
        except Exception:
            logger.exception("A connection broke")
            self._fail(BROKEN)
        self._silent_since = None if self._waiting else time.monotonic()
        if not self._inbox and not self._caught_up.is_set():
            self._caught_up.set()
            if self._socket is not None:
                self._socket.resume()

    def _asked(self) -> list[Command]:
        """What the next message asks for; audio of several in a row is one."""
        most = self._service.options.max_message_bytes
        message = self._inbox.popleft()
        if len(message) > most:
            told = f"A message of {len(message)} bytes; send at most {most} at once."
            self.end(Failure(FailureKind.MESSAGE_TOO_BIG, told))
            return []
        commands = self._translator.received(message)
        if isinstance(message, str) or not self._inbox:
            return commands
        while self._inbox and isinstance(self._inbox[0], bytes) and len(self._inbox[0]) <= most:
            commands += self._translator.received(self._inbox.popleft())
        audio = [command.data for command in commands if isinstance(command, Audio)]
        return [Audio(b"".join(audio))] if len(audio) == len(commands) else commands

    @property
    def _waiting(self) -> bool:
        return self._asking is not None or self._full or self._giving_way

    async def _watch_idle(self) -> None:
        """End the session when the client has been silent too long. While it is the server that does not read, no
        time counts."""
        while True:
            timeout = self._idle_timeout_s
            waited = time.monotonic() - self._silent_since if self._silent_since is not None else 0.0
            if waited >= timeout:
                told = f"Nothing came for {timeout:g} s; send audio, silence or pings to keep a session open."
                self.end(Failure(FailureKind.IDLE, told))
                return
            await asyncio.sleep(timeout - waited)

    async def _write(self) -> None:
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

    def _carry_out(self, command: Command) -> None:
        session = self._session if self._ending is None else None
        if isinstance(command, Audio):
            if session is not None:
                self._hear(session, command.data)
        elif isinstance(command, Send | Close):
            self._tell([command])
        elif isinstance(command, Last):
            self._last(command)
        elif isinstance(command, Open):
            self._todo.extendleft(reversed(self._open(command)))
        elif session is not None:
            self._control(session, command)

    def _last(self, command: Last) -> None:
        self._idle_timeout_s = max(self._idle_timeout_s, command.idle_s)
        minutes = command.life_s / 60
        failure = Failure(FailureKind.SESSION_EXPIRED, f"A session lasts {minutes:g} minutes; open a new one.")
        self._expiry = self._loop.call_later(command.life_s, self.end, failure)

    def _open(self, command: Open) -> list[Command]:
        self._drop_session()
        try:
            session = self._service.open(command.options, self._decoded, self._broke)
        except Refused as refused:
            failure = refused.failure
            self._service.metrics.refusals.labels(failure.code).inc()
            return self._failed(failure)
        self._session = session
        self._service.metrics.sessions.labels(self._protocol).inc()
        self._service.metrics.sessions_total.labels(self._protocol).inc()
        return self._translator.opened(Opened(session.key, session.options, self._service.recognizer.capabilities))

    def _control(self, session: Session, command: Command) -> None:
        now = time.monotonic()
        try:
            if isinstance(command, Configure):
                self._happened(session.configure(now, **command.changes))
                self._todo.extendleft(reversed(self._translator.configured(session.options)))
            elif isinstance(command, Finalize):
                self._happened(session.finalize(now))
            elif isinstance(command, Clear):
                self._happened(session.clear(now))
            elif isinstance(command, Stop):
                self._happened(session.stop(now))
        except OptionError as error:
            self._tell(self._failed(Failure(FailureKind.BAD_OPTION, str(error), goes_on=True)))
        except SessionStopped as error:
            self._stopped(error)
        self._service.update(session)

    def _stopped(self, error: SessionStopped) -> None:
        self._tell(self._failed(Failure(FailureKind.STOPPED, f"{error}.")))

    def _hear(self, session: Session, data: bytes | memoryview) -> None:
        """Feed audio, no faster than decoding frees the audio held."""
        if session.done:
            return
        if session.held_s > self._held_bound(session):
            self._full = True
            self._todo.appendleft(Audio(data))
            return
        size = int(session.bytes_per_second * SLICE_S)
        if len(data) > size:
            data = memoryview(data)
            self._todo.appendleft(Audio(data[size:]))
            data = data[:size]
            self._give_way()
        self._asking = session.receiving(data, time.monotonic())
        self._listen(None)

    def _give_way(self) -> None:
        self._giving_way = True
        self._loop.call_soon(self._had_their_turn)

    def _had_their_turn(self) -> None:
        self._giving_way = False
        self._go_on()

    def _listen(self, answer: list[float] | None) -> None:
        """Have the session hear on.

        Args:
            answer: to what it asked; None at first.
        """
        session, asking = self._session, self._asking
        if session is None or asking is None:
            return
        try:
            query = asking.send(answer)
        except StopIteration as end:
            self._asking = None
            self._heard(session, end.value)
        except SessionStopped as error:
            self._asking = None
            self._stopped(error)
        else:
            self._service.voice.ask(query, self._go_on, self._voice_failed)

    def _voice_failed(self) -> None:
        if self._asking is not None:
            self._fail(Failure(FailureKind.INTERNAL, "The server failed; its log says more."))

    def _heard(self, session: Session, events: list[Event]) -> None:
        if session.audio_ms - self._metered_ms >= METERED_MS:
            self.meter()
        if events:
            self._happened(events)
        if self._ending is not None:
            self._stop(session)
            return
        if events:
            self._service.update(session)
        else:
            self._service.heard(session)
        longest = self._service.options.max_session_s
        if session.audio_ms > longest * 1000:
            told = f"The stream has reached {longest:g} s, the longest allowed; open a new session to go on."
            self.end(Failure(FailureKind.SESSION_TOO_LONG, told))

    def _held_bound(self, session: Session) -> float:
        longest = session.options.max_utterance_s + HELD_MARGIN_S
        return max(self._service.options.max_held_s, longest) * session.tracks

    def _decoded(self, events: Sequence[Event]) -> None:
        """The runner brings what decodes made known."""
        self._happened(events)
        if self._full and any(isinstance(event, Final) for event in events):
            self._full = False
            self._loop.call_soon(self._go_on)

    def _broke(self, error: Exception) -> None:
        self._fail(BROKEN)
        self._go_on()

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
        self._inbox.clear()
        self._drop_session()
        self._tell(self._failed(failure))

    def _tell(self, commands: Sequence[Command]) -> None:
        try:
            for command in commands:
                if isinstance(command, Send):
                    self._send(command)
                elif isinstance(command, Close):
                    self._outbox.put(command)
                    self._closing.set()
        except SlowReader:
            self._outbox.clear()
            unread = self._service.options.max_unread_events
            told = f"{unread} messages are unread; read events while you send."
            self._fail(Failure(FailureKind.SLOW_READER, told))

    def _send(self, message: Send) -> None:
        """At once if that can be, or when what is before it has gone.

        Raises:
            SlowReader: too much is unread.
        """
        ahead = self._writing or self._closing.is_set() or len(self._outbox)
        if ahead or self._socket is None or not self._socket.send_now(message.message):
            self._outbox.put(message)

    def _drop_session(self) -> None:
        if self._session is not None:
            self.meter()
            session, self._session = self._session, None
            self._metered_ms = 0
            self._asking = None
            self._full = False
            self._service.remove(session)
            self._service.metrics.sessions.labels(self._protocol).dec()


BROKEN = Failure(FailureKind.INTERNAL, "The server failed; its log says more.")
SHUTDOWN = Failure(FailureKind.RESTARTING, "The server is shutting down; connect again shortly.")
