"""A stream that continues when the connection breaks, in the same session, and when the server restarts, in a new one.

Audio without a final is kept, and what the session lacks is sent again, so that no words are lost and none come twice;
times and utterance numbers continue.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from clients.errors import ServerRefused, StreamEnded, StreamError
from clients.events import AudioDropped, Configured, Event, Ready, Reconnecting, ServerError, ServerEvent
from clients.inbox import Inbox
from clients.ledger import AudioLedger, Control, Ping
from clients.retry import Patience, backoff_s
from clients.stream import DEFAULT_URL, Resume, TranscriptionStream, open_stream

KEEP_ALIVE_S = 15.0
"""A session without audio gets a ping this often. The server closes an idle one after a minute, by default."""
LIVE_SILENCE_S = 10.0
"""A server that owes a live client an answer for this long is not there any more."""
LATE_SILENCE_S = 60.0
"""The same for a client that sends faster than audio is decoded."""
WATCH_EVERY_S = 1.0
UNSENT_S = 2.0
"""A sender that can wait may be this far ahead of the audio sent."""


class LastingStream:
    """Like `TranscriptionStream`, over as many sessions as it takes. Iterate over it for events and notices.

    Iteration ends after `Done`. It raises a `StreamError` if trying again can't help or the outage is too long.

    Args:
        connection: arguments of `open_stream` besides the options.
        options: of the session, as named in docs/protocol.md; audio is 16-bit.
        live: whether audio can't wait: the oldest that does not fit is discarded; otherwise `send` waits.
        keep_s: most audio without a final to keep.
        give_up_after_s: longest outage: time without a session, until there is progress again.
        silence_s: a connection is broken if the server owes an answer and has sent nothing for this long.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        options: Mapping[str, Any],
        live: bool,
        keep_s: float,
        give_up_after_s: float,
        silence_s: float,
    ) -> None:
        self.ready: Ready | None = None
        """As last sent by the server; None before the first session."""
        self._connection = connection
        self._options = dict(options)
        self._live = live
        self._patience = Patience(give_up_after_s)
        self._silence_s = silence_s
        self._resume = Resume()
        """What to ask the server for when connecting."""
        split = options.get("channel_mode") == "split"
        rate, channels = options.get("sample_rate", 16_000), options.get("channels", 1)
        self._ledger = AudioLedger(rate, channels, split=split, keep_s=keep_s)
        self._second = rate * channels * 2
        self._inbox: Inbox[Event] = Inbox()
        self._session: TranscriptionStream | None = None
        self._in_flight: deque[tuple[int, dict[str, Any]]] = deque()
        """Changes sent in this session that have no answer, each with its number among the text messages."""
        self._changes: dict[str, Any] = {}
        """Changes to send when the next session opens, merged: an outage may be long."""
        self._work = asyncio.Event()
        """Set when there may be messages to send."""
        self._has_room = asyncio.Event()
        """Set when there may be room for more audio."""
        self._stopped = False
        self._ended: Exception | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="keep a session")

    @property
    def sent_ms(self) -> int:
        """Audio passed to `send`."""
        return self._ledger.end_ms

    @property
    def settled_ms(self) -> int:
        """Everything before this was processed and has its finals."""
        return self._ledger.settled_ms

    async def send(self, audio: bytes | memoryview) -> None:
        """Send audio of any length.

        Raises:
            StreamError: the stream has ended; the error that iteration raises.
        """
        view = memoryview(audio)
        for start in range(0, len(view), self._second):
            while not self._live and self._crowded and self._ended is None:
                self._has_room.clear()
                await self._has_room.wait()
            self._check_open()
            self._ledger.append(view[start : start + self._second])
            self._work.set()

    async def finalize(self) -> None:
        """End the open utterance now; `Finalized` follows once everything sent before has its final."""
        self._check_open()
        self._ledger.finalize()
        self._work.set()

    async def configure(self, **options: Any) -> None:
        """Change options in mid-stream. `Configured` follows, or a `ServerError` that is not fatal.

        Changes made without a session are sent as one when there is one; the server accepts or rejects them together.
        """
        self._check_open()
        if self._session is None:
            self._changes.update(options)
            return
        try:
            await self._send_changes(self._session, options)
        except StreamError:
            return  # The next session sends it again.

    async def stop(self) -> None:
        """End the audio. What is pending is transcribed; the last event is `Done`."""
        self._stopped = True
        self._ledger.stop()
        self._work.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self._inbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def opened(self) -> None:
        """Wait for the first session, or for the reply that the server is still loading.

        Raises:
            StreamError: the first session failed.
        """
        await self._opened

    async def aclose(self) -> None:
        """Close the connection; what has no final yet gets none."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._inbox.close()

    @property
    def _crowded(self) -> bool:
        return self._ledger.full or self._ledger.unsent_s > UNSENT_S

    def _check_open(self) -> None:
        if self._stopped:
            raise StreamEnded("The stream is stopped; open another to send more.")
        if self._ended is not None:
            raise self._ended

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            await self._keep_a_session()
        except Exception as caught:
            error = caught
            for final in self._ledger.take_provisional():
                await self._inbox.put(final)
        self._ended = error or StreamEnded("The stream is done; open another to send more.")
        if not self._opened.done():
            if error is None:
                self._opened.set_result(None)
            else:
                self._opened.set_exception(error)
        self._has_room.set()
        await self._inbox.close(error)

    async def _keep_a_session(self) -> None:
        while (error := await self._one_session()) is not None:
            loading = isinstance(error, ServerRefused) and error.code == "not_ready"
            if not self._opened.done() and loading:
                self._opened.set_result(None)
            attempt = self._patience.failed(asyncio.get_running_loop().time(), self._ledger.settled_ms)
            if attempt is None or not error.transient or not self._opened.done():
                raise error
            delay = backoff_s(attempt)
            await self._inbox.put(Reconnecting(reason=str(error), attempt=attempt, delay_s=delay))
            await asyncio.sleep(delay)

    async def _one_session(self) -> StreamError | None:
        """Run a session from its opening to its end; returns the error that ended it, None if the stream is done."""
        try:
            async with open_stream(options=self._session_options, resume=self._resume, **self._connection) as session:
                try:
                    await self._begin(session)
                    await self._converse(session)
                finally:
                    self._session = None
                    self._resume = Resume(self._resume.token, session.seq)
        except StreamError as error:
            if isinstance(error, ServerRefused):
                # The session is over.
                self._resume = Resume()
            return error
        return None

    @property
    def _session_options(self) -> dict[str, Any]:
        """Options of a session that begins now, if the one before can't be resumed."""
        lead_in_ms = self._ledger.lead_in_ms
        return {**self._options, "lead_in_ms": lead_in_ms} if lead_in_ms else dict(self._options)

    async def _begin(self, session: TranscriptionStream) -> None:
        self._patience.opened(asyncio.get_running_loop().time())
        offered = session.ready.resume
        if offered is not None and offered.resumed:
            reconnected = self._ledger.resume_session(offered.audio_bytes, offered.controls)
            self._take_back_changes(offered.controls)
        else:
            reconnected = self._ledger.begin_session(session.ready.options, session.controls)
            self._take_back_changes(0)
        self._resume = Resume(offered.token, session.seq) if offered is not None else Resume()
        await self._inbox.put(session.ready if self.ready is None else reconnected)
        if self.ready is None and reconnected.lost_ms:
            await self._inbox.put(AudioDropped(start_ms=0, end_ms=reconnected.lost_ms))
        self.ready = session.ready
        if not self._opened.done():
            self._opened.set_result(None)
        self._session = session
        if self._changes:
            changes, self._changes = self._changes, {}
            await self._send_changes(session, changes)

    def _take_back_changes(self, received: int) -> None:
        """Send again the changes of which the server has not received the message.

        Args:
            received: text messages that it has received in this session.
        """
        lost: dict[str, Any] = {}
        while self._in_flight and self._in_flight[-1][0] > received:
            _, options = self._in_flight.pop()
            lost = {**options, **lost}
        self._changes = {**lost, **self._changes}

    async def _converse(self, session: TranscriptionStream) -> None:
        sender = asyncio.create_task(self._send_all(session), name="send what the ledger has")
        watch = asyncio.create_task(self._watch(session), name="watch for silence")
        try:
            async for event in session:
                await self._observe(event)
        finally:
            for task in (sender, watch):
                task.cancel()
            await asyncio.gather(sender, watch, return_exceptions=True)

    async def _watch(self, session: TranscriptionStream) -> None:
        """Break a connection on which nothing comes any more, which TCP may take an hour to notice."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self._silence_s / 4))
            if session.silent_s >= self._silence_s:
                session.abort()
                return

    async def _send_changes(self, session: TranscriptionStream, options: dict[str, Any]) -> None:
        self._in_flight.append((self._ledger.count_control(), options))
        await session.configure(**options)

    async def _observe(self, event: ServerEvent) -> None:
        if isinstance(event, Configured):
            self._options.update(event.options)
        if self._in_flight and (
            isinstance(event, Configured) or (isinstance(event, ServerError) and event.code == "bad_option")
        ):
            self._in_flight.popleft()
        for stream_event in self._ledger.observe(event):
            await self._inbox.put(stream_event)
        self._has_room.set()

    async def _send_all(self, session: TranscriptionStream) -> None:
        """Send until the session ends; the reader of its events raises the error that ended it."""
        try:
            while True:
                message = self._ledger.next_message()
                if message is None:
                    await self._wait_for_work(session)
                elif isinstance(message, Ping):
                    await session.ping(message.id)
                elif message is Control.FINALIZE:
                    await session.finalize()
                elif message is Control.STOP:
                    await session.stop()
                    return
                else:
                    await session.send(message)
                    self._has_room.set()
                    if (gap := self._ledger.take_gap()) is not None:
                        await self._inbox.put(gap)
        except StreamError:
            return

    async def _wait_for_work(self, session: TranscriptionStream) -> None:
        """Wait until there may be messages to send. Pings keep the session from being closed as idle."""
        self._work.clear()
        while not self._work.is_set():
            try:
                await asyncio.wait_for(self._work.wait(), KEEP_ALIVE_S)
            except asyncio.TimeoutError:
                await session.ping(self._ledger.ping().id)


@asynccontextmanager
async def open_lasting_stream(
    url: str = DEFAULT_URL,
    options: Mapping[str, Any] | None = None,
    *,
    api_key: str | None = None,
    tls: ssl.SSLContext | None = None,
    live: bool = False,
    keep_s: float = 120.0,
    give_up_after_s: float = 300.0,
    silence_s: float | None = None,
) -> AsyncIterator[LastingStream]:
    """Connect, and continue when a connection breaks.

    Args:
        url, options, api_key, tls: as of `open_stream`; the encoding is 16-bit.
        live, keep_s, give_up_after_s: as of `LastingStream`; audio from a microphone is live.
        silence_s: as of `LastingStream`; None: 10 s for live audio. A server that decodes a file that was sent faster
            than it can be decoded may be silent for longer; then 60 s.

    Raises:
        StreamError: the first session failed, and not because the server is still loading.
        ValueError: `options` have another encoding.
    """
    if (options or {}).get("encoding", "s16le") != "s16le":
        raise ValueError("open_lasting_stream takes 16-bit audio; leave `encoding` at s16le")
    connection = {"url": url, "api_key": api_key, "tls": tls}
    if silence_s is None:
        silence_s = LIVE_SILENCE_S if live else LATE_SILENCE_S
    stream = LastingStream(
        connection, options or {}, live=live, keep_s=keep_s, give_up_after_s=give_up_after_s, silence_s=silence_s
    )
    try:
        await stream.opened()
        yield stream
    finally:
        await stream.aclose()
