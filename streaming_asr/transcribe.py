"""`streaming-asr transcribe`: a file through the same pipeline as a stream, in this process, without a server."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streaming_asr.events import Done, Event, Final, Warning
from streaming_asr.media import UnreadableMedia, duration_s, read_audio
from streaming_asr.recognizers.base import Audio, Recognizer
from streaming_asr.runner import Runner
from streaming_asr.scheduler import Scheduler
from streaming_asr.session import Session
from streaming_asr.settings import Encoding, SessionOptions
from streaming_asr.subtitles import written

HELD_S = 120.0
"""Audio read ahead of its decoding; it must be longer than the longest utterance."""


async def transcribe_files(
    recognizer: Recognizer, files: Sequence[Path], options: SessionOptions, *, style: str, output: Path | None
) -> int:
    """Transcribe files one after the other; returns the exit status, 1 if one could not be read.

    What was transcribed is written even when it is cut short.

    Args:
        recognizer: not started yet.
        style: `text`, `json`, `srt` or `vtt`.
        output: file to write, or None for standard output.

    Raises:
        RecognizerUnavailable: it can't run here.
        OptionError: an option can't be met.
    """
    status = 0
    finals: list[Final] = []
    await recognizer.start()
    try:
        for path in files:
            try:
                await _transcribe_file(recognizer, path, options, finals)
            except UnreadableMedia as error:
                print(f"streaming-asr: {error}", file=sys.stderr)
                status = 1
    finally:
        await recognizer.close()
        text = written(finals, style)
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")
    return status


async def _transcribe_file(recognizer: Recognizer, path: Path, options: SessionOptions, finals: list[Final]) -> None:
    length = duration_s(path)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(path.name, total=length)
        async for event in transcribe(recognizer, read_audio(path), options):
            if isinstance(event, Final):
                finals.append(event)
                progress.update(task, completed=event.end_ms / 1000)
            elif isinstance(event, Warning):
                progress.console.print(f"{path.name}: {event.message}")


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
    session = Session("file", options, can)
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
