"""Live transcription of a microphone: ``python -m clients.mic``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import sys
from collections.abc import Sequence

from clients.dependencies import required

with required("clients.mic"):
    from rich.console import Console
    from rich.table import Table

    from clients.command import FAILED, cancel, finish, follow, run_command
    from clients.interrupts import Interrupts
    from clients.level import LevelMeter
    from clients.live_view import LiveView, Track
    from clients.microphone import Microphone, input_devices
    from clients.options import (
        add_connection_options,
        add_output_options,
        add_session_options,
        check_saves,
        connection_options,
        session_options,
    )
    from clients.reconnect import LastingStream, open_lasting_stream
    from clients.transcript_files import create_transcript

MUTED_S = 3.0
"""A microphone that gives only zeros for this long is off; a quiet room is not that quiet."""
OVERFLOW_NOTICE_EVERY_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = _parser().parse_args(argv)
    return run_command(_list_devices() if given.list_devices else _listen(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clients.mic",
        description="Transcribe a microphone while you speak. Ctrl-C ends it.",
    )
    group = parser.add_argument_group("microphone")
    group.add_argument("--list-devices", action="store_true", help="show the microphones and end")
    group.add_argument("--device", type=_device, metavar="DEVICE", help="number or part of the name")
    add_connection_options(parser)
    # The text is on the screen while it is spoken, so finals may wait for whole sentences.
    add_session_options(parser, profile="captions")
    add_output_options(parser, "write the transcript too, as .txt, .json, .srt or .vtt; may be repeated")
    return parser


def _device(text: str) -> int | str:
    return int(text) if text.isdigit() else text


async def _list_devices() -> int:
    table = Table("", "device", "name", "through", "channels", "Hz", box=None)
    devices = input_devices()
    for device in devices:
        mark = "*" if device.default else ""
        table.add_row(mark, str(device.index), device.name, device.api, str(device.channels), str(device.rate))
    if devices:
        Console().print(table)
        return 0
    print("No microphone was found.", file=sys.stderr)
    return FAILED


async def _listen(given: argparse.Namespace) -> int:
    check_saves(given.save, overwrite=given.overwrite)
    microphone = Microphone(given.device)
    options = {**session_options(given), "sample_rate": microphone.rate, "channels": microphone.channels}
    view = LiveView(quiet=given.quiet, times=given.times)
    with Interrupts() as interrupts, contextlib.ExitStack() as files:
        async with view, open_lasting_stream(options=options, live=True, **connection_options(given)) as stream:
            transcripts = [files.enter_context(create_transcript(path)) for path in given.save]
            track = view.track(microphone.name)
            following = asyncio.create_task(follow(stream, track, transcripts), name="follow the stream")
            feeding = asyncio.create_task(_feed(microphone, stream, track), name="listen")
            interrupted = asyncio.create_task(interrupts.requested.wait(), name="wait for Ctrl-C")
            try:
                microphone.start()
                _greet(view, microphone, stream)
                await asyncio.wait({following, feeding, interrupted}, return_when=asyncio.FIRST_COMPLETED)
                microphone.close()
                # What was captured is still sent.
                await asyncio.wait({following, feeding}, return_when=asyncio.FIRST_COMPLETED)
                await finish(stream, following, track)
                await feeding
            finally:
                microphone.close()
                await cancel(following, feeding, interrupted)
    for path in given.save:
        view.notice(f"Saved {path}", style="green")
    return 0


def _greet(view: LiveView, microphone: Microphone, stream: LastingStream) -> None:
    ready = stream.ready
    model = f"{ready.model} by {ready.recognizer}" if ready else "a server that is still loading"
    view.notice(f"Listening to {microphone.name} at {microphone.rate} Hz, with {model}. Ctrl-C ends.", style="dim")


async def _feed(microphone: Microphone, stream: LastingStream, track: Track) -> None:
    """Send the microphone's audio until it is closed."""
    meter = LevelMeter(microphone.rate * microphone.channels * 2)
    muted, overflow_noticed_at = False, -math.inf
    loop = asyncio.get_running_loop()
    async for block in microphone:
        meter.push(block)
        await stream.send(block)
        track.level_db = meter.level_db
        track.position_ms = stream.sent_ms
        if microphone.overflows and loop.time() - overflow_noticed_at > OVERFLOW_NOTICE_EVERY_S:
            overflow_noticed_at = loop.time()
            track.notice(f"This machine is too busy: audio was lost {microphone.overflows} times so far.")
        if meter.silent_s > MUTED_S and not muted:
            muted = True
            track.notice("The microphone gives pure silence; is it muted, or may this program not use it?")


if __name__ == "__main__":
    sys.exit(main())
