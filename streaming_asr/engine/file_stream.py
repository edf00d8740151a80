"""A whole file through the pipeline of live streams, as fast as the recognizer decodes, in bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from streaming_asr.core.events import Done, Event, SessionWarning
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import Audio
from streaming_asr.core.session import Session
from streaming_asr.engine.runner import Broke, Listener

HELD_S = 120.0
"""Audio read ahead of its decoding, seconds; at least half a minute more than the longest utterance."""


class Host(Protocol):
    """Opens sessions and decodes for them: the server's service, or a command's own host."""

    def open(self, options: SessionOptions, listener: Listener, broke: Broke, *, recorded: bool) -> Session:
        """Open a session; see `Runner.add`."""

    def update(self, session: Session) -> None:
        """Start and cancel jobs after the session received audio or a command."""

    def remove(self, session: Session) -> None:
        """Remove the session."""


class Observer(Protocol):
    """Notified of what happens in the session of a file, at once, before its jobs are started."""

    def opened(self, session: str) -> None:
        """The session was opened; `session` is its key."""

    def on_events(self, events: Sequence[Event], now: float) -> None:
        """The session returned events; `now` in seconds."""


async def _at_once(cost_s: float) -> None:
    """Lets other tasks run, no more."""
    await asyncio.sleep(0)


async def stream_file(
    host: Host,
    audio: AsyncIterator[Audio | SessionWarning],
    options: SessionOptions,
    observer: Observer | None = None,
    pace: Callable[[float], Awaitable[None]] = _at_once,
) -> AsyncIterator[Event]:
    """Yield the events of a file.

    Args:
        audio: pieces of 16 kHz mono float32 samples, each of shape ``[n]``, and warnings about them, which are events.
        options: of the session; its encoding is replaced, and partials are turned off.
        observer: is notified of the session.
        pace: is awaited before each piece of audio, with the processor time that the one before took, seconds.

    Raises:
        What `host.open` raises, what `audio` does, and what breaks the session.
    """
    options = options.changed(encoding=Encoding.F32LE, sample_rate=16_000, channels=1, partials=False)
    inbox: asyncio.Queue[Event | Exception] = asyncio.Queue()

    def on_events(events: Sequence[Event]) -> None:
        if observer is not None:
            observer.on_events(events, time.monotonic())
        for event in events:
            inbox.put_nowait(event)

    async def next_event() -> Event:
        event = await inbox.get()
        if isinstance(event, Exception):
            raise event
        return event

    session = host.open(options, on_events, inbox.put_nowait, recorded=True)
    if observer is not None:
        observer.opened(session.key)
    bound = max(HELD_S, session.options.max_utterance_s + 30)
    cost_s = 0.0
    try:
        async for piece in audio:
            if isinstance(piece, SessionWarning):
                yield piece
                continue
            await pace(cost_s)
            began = time.thread_time()
            on_events(session.receive(piece.tobytes(), time.monotonic()))
            host.update(session)
            cost_s = time.thread_time() - began
            while session.held_s > bound:
                yield await next_event()
            while not inbox.empty():
                yield await next_event()
        on_events(session.stop(time.monotonic()))
        host.update(session)
        while True:
            event = await next_event()
            yield event
            if isinstance(event, Done):
                return
    finally:
        host.remove(session)
