"""`streaming-asr transcribe`: a file through the same pipeline as a stream, in this process, without a server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streaming_asr.core.events import Final, SessionWarning
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Recognizer
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session
from streaming_asr.engine.file_stream import stream_file
from streaming_asr.engine.media import UnreadableMedia, duration_s, read_audio
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.engine.runner import Broke, Listener, Runner
from streaming_asr.text.subtitles import render
from streaming_asr.voice.detectors import make_detector


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
        RecognizerUnavailable: the recognizer can't run here.
        OptionError: the recognizer can't do what an option asks.
    """
    limit_blas_threads()
    status = 0
    finals: list[Final] = []
    if style in ("srt", "vtt"):
        options = options.changed(word_times=True)
    await recognizer.start()
    try:
        host = _Host(recognizer)
        for path in files:
            try:
                await _transcribe_file(host, path, options, finals)
            except UnreadableMedia as error:
                print(f"streaming-asr: {error}", file=sys.stderr)
                status = 1
        await host.close()
    finally:
        await recognizer.close()
        text = render(finals, style)
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")
    return status


async def _transcribe_file(host: _Host, path: Path, options: SessionOptions, finals: list[Final]) -> None:
    length = duration_s(path)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(path.name, total=length)
        async for event in stream_file(host, read_audio(path), options):
            if isinstance(event, Final):
                finals.append(event)
                progress.update(task, completed=event.end_ms / 1000)
            elif isinstance(event, SessionWarning):
                progress.console.print(f"{path.name}: {event.message}")


class _Host:
    """A recognizer for one session after another.

    Args:
        recognizer: started.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._can = recognizer.capabilities
        self._runner = Runner(recognizer, Scheduler(self._can.concurrency))
        self.update = self._runner.update
        self.remove = self._runner.remove
        self.close = self._runner.close

    def open(self, options: SessionOptions, listener: Listener, broke: Broke, *, recorded: bool) -> Session:
        session = Session("file", options, self._can, make_detector, recorded=recorded)
        self._runner.add(session, listener, broke)
        return session
