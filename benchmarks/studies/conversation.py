"""How much of real talk lies in no utterance, over the native protocol: the table of docs/vad.md.

    python -m benchmarks.studies.conversation --speech DIR [--url ws://localhost:8000/v1/stream] [--vad NAME]

The set must say whose turn is when. Each recording is sent as it is and quieter, in 16 bits; an utterance is from the
start to the end of its final.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common.measures.turns import Coverage, Span, coverage, together
from benchmarks.common.speech import Clip, NoSpeech, add_speech_option, clips
from clients.errors import StreamError
from clients.events import Final
from clients.stream import DEFAULT_URL, TranscriptionStream, open_stream
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio


def as_sent(audio: Audio, quieter_db: float) -> bytes:
    """16-bit samples of the audio, quieter by the given number of dB."""
    scaled = np.round(audio * 10 ** (-quieter_db / 20) * 32768)
    return np.clip(scaled, -32768, 32767).astype("<i2").tobytes()


async def utterances(url: str, audio: bytes, options: Mapping[str, Any]) -> list[Span]:
    """From the start to the end of each final, in seconds."""
    async with open_stream(url, {"sample_rate": SAMPLE_RATE, "partials": False, **options}) as stream:
        sending = asyncio.create_task(_send(stream, audio))
        finals = [event async for event in stream if isinstance(event, Final)]
        await sending
    return [(final.start_ms / 1000, final.time_ms / 1000) for final in finals]


async def _send(stream: TranscriptionStream, audio: bytes) -> None:
    await stream.send(audio)
    await stream.stop()


async def measure(url: str, talk: Sequence[Clip], quieter_db: float, options: Mapping[str, Any]) -> Coverage:
    """Send every recording, one after the other."""
    parts = []
    for clip in talk:
        audio = clip.audio()
        found = await utterances(url, as_sent(audio, quieter_db), options)
        parts.append(coverage(len(audio) / SAMPLE_RATE, [(start, end) for _, start, end in clip.turns], found))
    return together(parts)


async def _run(given: argparse.Namespace, talk: Sequence[Clip]) -> None:
    options = {} if given.vad is None else {"vad": given.vad}
    table = Table(title=f"{len(talk)} recordings, voice detector: {given.vad or 'the default'}")
    for head in ("quieter by", "missed", "outside turns, in an utterance", "utterances"):
        table.add_column(head, justify="right")
    for db in given.quieter_db:
        found = await measure(given.url, talk, db, options)
        table.add_row(f"{db:g} dB", f"{found.missed:.1%}", f"{found.false:.2%}", str(found.utterances))
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.conversation", description=__doc__.splitlines()[0]
    )
    add_speech_option(parser)
    parser.add_argument("--set", default="conversation", metavar="SET")
    parser.add_argument("--url", default=DEFAULT_URL, help="address of the server (default: %(default)s)")
    parser.add_argument("--vad", metavar="NAME", help="voice detector (default: the server's)")
    parser.add_argument("--quieter-db", type=float, nargs="+", default=[0, 20, 30], metavar="DB")
    given = parser.parse_args(argv)
    try:
        talk = [clip for clip in clips(given.speech, given.set) if clip.turns]
    except NoSpeech as error:
        parser.exit(1, f"{error}\n")
    if not talk:
        parser.exit(1, f"no recording of {given.set} says whose turn is when\n")
    try:
        asyncio.run(_run(given, talk))
    except StreamError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
