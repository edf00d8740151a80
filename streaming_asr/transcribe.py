"""`streaming-asr transcribe`: a file through the same pipeline as a stream, in this process, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from streaming_asr.events import Done, Event
from streaming_asr.recognizers.base import Audio, Recognizer
from streaming_asr.runner import Runner
from streaming_asr.scheduler import Scheduler
from streaming_asr.server.service import detector_for
from streaming_asr.session import Session
from streaming_asr.settings import Encoding, SessionOptions

HELD_S = 120.0
"""Audio read ahead of its decoding; it must be longer than the longest utterance."""


async def transcribe(recognizer: Recognizer, audio: Iterator[Audio], options: SessionOptions) -> AsyncIterator[Event]:
    """A file's events, as fast as the recognizer decodes.

    Args:
        recognizer: started.
        audio: 16 kHz mono float32 pieces.
        options: of the session; how the audio is encoded is set here.

    Raises:
        OptionError: an option can't be met.
    """
    can = recognizer.capabilities
    options = options.changed(encoding=Encoding.F32LE, sample_rate=16_000, channels=1, partials=False)
    session = Session("file", options, can, detector_for)
    runner = Runner(recognizer, Scheduler(can.concurrency))
    inbox: asyncio.Queue[Event] = asyncio.Queue()

    def told(events: Sequence[Event]) -> None:
        for event in events:
            inbox.put_nowait(event)

    runner.add(session, told)
    bound = max(HELD_S, options.max_utterance_s + 30)
    try:
        for piece in audio:
            told(session.receive(piece.tobytes(), time.monotonic()))
            runner.update(session)
            while session.held_s > bound:
                yield await inbox.get()
            while not inbox.empty():
                yield inbox.get_nowait()
            await asyncio.sleep(0)
        told(session.stop(time.monotonic()))
        runner.update(session)
        while True:
            event = await inbox.get()
            yield event
            if isinstance(event, Done):
                return
    finally:
        runner.remove(session)
        await runner.close()
