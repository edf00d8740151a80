"""`streaming-asr transcribe`: a file through the same pipeline as a stream, in this process, without a server."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.events import Final, SessionWarning
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Recognizer
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session
from streaming_asr.engine.file_stream import stream_file
from streaming_asr.engine.media.decoders import Decoders, MediaRefused
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.engine.runner import Broke, Listener, Runner
from streaming_asr.text.subtitles import render
from streaming_asr.turns.detectors import make_turn_detector
from streaming_asr.voice.detectors import make_detector

MAX_RECORDING_S = 7 * 86_400.0
"""Longest file that is transcribed."""


async def transcribe_files(
    recognizer: Recognizer, files: Sequence[Path], options: SessionOptions, *, style: str, output: Path | None
) -> int:
    """Transcribe files one after the other; returns the exit status.

    The status is 1 if a file can't be read or the output not be written. What was transcribed is written even when it
    is cut short.

    Args:
        recognizer: not started yet.
        style: `text`, `json`, `srt` or `vtt`.
        output: file to write, or None for standard output.

    Raises:
        RecognizerUnavailable: the recognizer can't run here.
        OptionError: the recognizer can't do what an option asks.
    """
    limit_blas_threads()
    if output is not None and (refused := _why_not_writable(output)):
        print(f"streaming-asr: {output}: {refused}", file=sys.stderr)
        return 1
    status = 0
    finals: list[Final] = []
    if style in ("srt", "vtt"):
        options = options.changed(word_times=True)
    await recognizer.start()
    try:
        host = _Host(recognizer)
        decoders = Decoders(MAX_RECORDING_S)
        for path in files:
            try:
                decoders.prepare()
                await _transcribe_file(host, decoders, path, options, finals)
            except MediaRefused as error:
                print(f"streaming-asr: {path}: {error}", file=sys.stderr)
                status = 1
            except OSError as error:
                print(f"streaming-asr: {path}: {error.strerror or error}", file=sys.stderr)
                status = 1
        await decoders.close()
        await host.close()
    finally:
        await recognizer.close()
        text = render(finals, style)
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")
    return status


def _why_not_writable(path: Path) -> str:
    """Empty if the file can be written. It is then there, and what was in it, too."""
    try:
        path.open("a").close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _transcribe_file(
    host: _Host, decoders: Decoders, path: Path, options: SessionOptions, finals: list[Final]
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with (
        await asyncio.to_thread(_opened, path) as file,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task(path.name, total=None)
        async with decoders.open(file.fileno()) as recording:
            async for event in stream_file(host, recording.read(), options):
                if isinstance(event, Final):
                    finals.append(event)
                    progress.update(task, completed=event.end_ms / 1000, total=recording.duration_s)
                elif isinstance(event, SessionWarning):
                    progress.console.print(f"{path.name}: {event.message}")


def _opened(path: Path) -> IO[bytes]:
    """The file; a pipe is read to its end first, because some formats have their index at the end.

    Raises:
        OSError: it can't be opened or read.
    """
    # Not `sys.stdin`, which is None where it is closed, and could be read only once.
    file = io.BufferedReader(io.FileIO(0, closefd=False)) if str(path) == "-" else path.open("rb")
    if file.seekable():
        return file
    with file:
        kept = tempfile.TemporaryFile()  # noqa: SIM115
        shutil.copyfileobj(file, kept)
    kept.seek(0)
    return kept


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
        session = Session(
            "file",
            options,
            self._can,
            make_detector,
            make_turn_detector=make_turn_detector,
            make_annotators=make_annotators,
            recorded=recorded,
        )
        self._runner.add(session, listener, broke)
        return session
