"""Transcription of audio and video files through the server: ``python -m clients.file FILE…``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from clients.dependencies import required

with required("clients.file"):
    from clients.audio_file import AudioFile, UnreadableAudio, open_audio
    from clients.command import FAILED, cancel, finish, follow, run_command
    from clients.interrupts import INTERRUPTED, Interrupts
    from clients.live_view import LiveView, Track
    from clients.options import (
        UsageError,
        add_connection_options,
        add_output_options,
        add_session_options,
        check_saves,
        connection_options,
        session_options,
    )
    from clients.pacing import at_real_time, in_thread
    from clients.reconnect import LIVE_SILENCE_S, LastingStream, open_lasting_stream
    from clients.transcript_files import create_transcript

_MEASURED_EVERY_S = 0.1
_SAVE_HELP = """write the transcript too, as .txt, .json, .srt or .vtt; may be repeated. {stem}, {name} and {dir}
stand for the audio file's name without and with extension and for its folder; several files need one of them:
--save '{dir}/{stem}.srt'"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(_transcribe(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clients.file", description="Transcribe audio and video files through the server."
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="any format that PyAV or soundfile reads; - is standard input",
    )
    group = parser.add_argument_group("sending")
    group.add_argument("--realtime", action="store_true", help="send at the pace of speech, and show partials")
    group.add_argument(
        "--chunk-ms", type=int, default=100, metavar="MS", help="audio sent at once (default: %(default)s)"
    )
    group.add_argument("--parallel", type=int, default=1, metavar="N", help="files at once (default: %(default)s)")
    group.add_argument(
        "--split-channels", action="store_true", help="transcribe the channels of stereo files separately"
    )
    add_connection_options(parser)
    add_session_options(parser)
    add_output_options(parser, _SAVE_HELP)
    return parser


async def _transcribe(given: argparse.Namespace) -> int:
    _check(given)
    files: list[Path] = given.files
    view = LiveView(quiet=given.quiet, times=given.times)
    with Interrupts() as interrupts:
        async with view:
            run = _Run(given, view, interrupts)
            waiting = iter(files)
            workers = [asyncio.create_task(run.work(waiting)) for _ in range(min(given.parallel, len(files)))]
            try:
                await asyncio.gather(*workers)
            finally:
                await cancel(*workers)
        if interrupts.requested.is_set():
            return INTERRUPTED
        return FAILED if run.failed else 0


def _check(given: argparse.Namespace) -> None:
    if not 10 <= given.chunk_ms <= 10_000:
        raise UsageError(f"--chunk-ms {given.chunk_ms}: 10 to 10000 is allowed")
    if not 1 <= given.parallel <= 100:
        raise UsageError(f"--parallel {given.parallel}: 1 to 100 is allowed")
    session_options(given)
    check_saves([path for file in given.files for path in _saves(given, file)], overwrite=given.overwrite)


def _saves(given: argparse.Namespace, file: Path) -> list[Path]:
    """The paths of a file's transcripts."""
    names = {"{stem}": file.stem, "{name}": file.name, "{dir}": str(file.parent)}
    paths = []
    for path in given.save:
        filled = str(path)
        for name, value in names.items():
            filled = filled.replace(name, value)
        if filled == str(path) and len(given.files) > 1:
            raise UsageError(f"--save {path}: several files need a name for each, such as '{{stem}}{path.suffix}'")
        paths.append(Path(filled))
    return paths


class _Run:
    """The files of one command."""

    def __init__(self, given: argparse.Namespace, view: LiveView, interrupts: Interrupts) -> None:
        self._given = given
        self._view = view
        self._interrupts = interrupts
        self._connection = connection_options(given)
        self.failed = False
        """Whether a file could not be transcribed."""

    async def work(self, waiting: Iterable[Path]) -> None:
        """Transcribe files until none is left. A file that can't be read does not stop the others.

        Raises:
            StreamError: the server can't be used.
            TranscriptError: a transcript can't be written.
        """
        for path in waiting:
            if self._interrupts.requested.is_set():
                return
            try:
                with open_audio(
                    path,
                    split_channels=self._given.split_channels,
                    piece_ms=self._given.chunk_ms,
                    on_repair=lambda message, name=path.name: self._view.notice(f"{name}: {message}", urgent=True),  # type: ignore[misc]
                ) as audio:
                    await self._transcribe(path, audio)
            except UnreadableAudio as error:
                self._view.notice(str(error), style="red", urgent=True)
                self.failed = True

    async def _transcribe(self, path: Path, audio: AudioFile) -> None:
        options = {"partials": self._given.realtime, **session_options(self._given)}
        options |= {"sample_rate": audio.rate, "channels": audio.channels}
        if audio.channels == 2:
            options["channel_mode"] = "split"
        track = self._view.track(path.name, duration_s=audio.duration_s, labelled=len(self._given.files) > 1)
        saves = _saves(self._given, path)
        try:
            with contextlib.ExitStack() as files:
                silence_s = LIVE_SILENCE_S if self._given.realtime else None
                async with open_lasting_stream(options=options, silence_s=silence_s, **self._connection) as stream:
                    split = audio.channels == 2
                    transcripts = [files.enter_context(create_transcript(to, several_channels=split)) for to in saves]
                    following = asyncio.create_task(follow(stream, track, transcripts))
                    measuring = asyncio.create_task(self._measure(stream, track))
                    sending = asyncio.create_task(self._send(audio, stream))
                    interrupted = asyncio.create_task(self._interrupts.requested.wait())
                    try:
                        await asyncio.wait({sending, following, interrupted}, return_when=asyncio.FIRST_COMPLETED)
                        if sending.done() and not following.done():
                            await sending
                            await stream.stop()
                            await asyncio.wait({following, interrupted}, return_when=asyncio.FIRST_COMPLETED)
                        sending.cancel()
                        await finish(stream, following, track)
                    finally:
                        await cancel(sending, following, measuring, interrupted)
        finally:
            track.close()
        for to in saves:
            self._view.notice(f"Saved {to}", style="green")

    async def _send(self, audio: AudioFile, stream: LastingStream) -> None:
        """Send the file. If it is cut off, what came before is still transcribed."""
        try:
            async for piece in self._paced(audio):
                await stream.send(piece)
        except UnreadableAudio as error:
            self._view.notice(str(error), style="red", urgent=True)
            self.failed = True

    def _paced(self, audio: AudioFile) -> AsyncIterator[bytes]:
        pieces = in_thread(audio.pieces) if audio.piped else _at_once(audio.pieces)
        return at_real_time(pieces, audio.bytes_per_second) if self._given.realtime else pieces

    async def _measure(self, stream: LastingStream, track: Track) -> None:
        """Update the progress: the audio sent if it is sent at real time, else the audio transcribed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(_MEASURED_EVERY_S)
            if self._given.realtime:
                track.position_ms = stream.sent_ms
            else:
                track.position_ms = stream.settled_ms
                track.speed = stream.settled_ms / 1000 / (loop.time() - began)


async def _at_once(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


if __name__ == "__main__":
    sys.exit(main())
