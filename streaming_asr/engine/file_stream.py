"""A whole file through the pipeline of live streams, as fast as the recognizer decodes, in bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from streaming_asr.core.events import Done, Event
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import Audio
from streaming_asr.core.session import Session
from streaming_asr.engine.runner import Broke, Listener

HELD_S = 120.0
"""Audio read ahead of its decoding, at least half a minute more than the longest utterance."""


class Host(Protocol):
    """Where sessions live: the server's service, or one of a command's own."""

    def open(self, options: SessionOptions, listener: Listener, broke: Broke, *, recorded: bool) -> Session: ...

    def update(self, session: Session) -> None: ...

    def remove(self, session: Session) -> None: ...


async def stream_file(host: Host, audio: Iterator[Audio], options: SessionOptions) -> AsyncIterator[Event]:
    """A file's events.

    Args:
        audio: 16 kHz mono float32 pieces.
        options: of the session; how the audio is encoded is set here, and partials are left out.

    Raises:
        What `host.open` raises, what `audio` does, and what breaks the session.
    """
    options = options.changed(encoding=Encoding.F32LE, sample_rate=16_000, channels=1, partials=False)
    inbox: asyncio.Queue[Event | Exception] = asyncio.Queue()

    def told(events: Sequence[Event]) -> None:
        for event in events:
            inbox.put_nowait(event)

    async def next_event() -> Event:
        event = await inbox.get()
        if isinstance(event, Exception):
            raise event
        return event

    session = host.open(options, told, inbox.put_nowait, recorded=True)
    bound = max(HELD_S, session.options.max_utterance_s + 30)
    try:
        for piece in audio:
            told(session.receive(piece.tobytes(), time.monotonic()))
            host.update(session)
            while session.held_s > bound:
                yield await next_event()
            while not inbox.empty():
                yield await next_event()
            await asyncio.sleep(0)
        told(session.stop(time.monotonic()))
        host.update(session)
        while True:
            event = await next_event()
            yield event
            if isinstance(event, Done):
                return
    finally:
        host.remove(session)
