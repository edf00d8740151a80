"""What the text of finals owes to where their audio begins and ends: the table of docs/turns.md.

    python -m benchmarks.studies.edges --speech DIR --set librispeech --clips 60 --model tiny.en

Utterances are found once, by sessions with `--option`s (default: profile=captions). Then their audio is decoded with
other edges, and whole files too: 0.1 s more or less before a whole file shows how much is chance.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.word_errors import Errors, count_errors, difference_interval, pooled
from benchmarks.common.normalization import units
from benchmarks.common.speech import Clip
from benchmarks.common.study import chosen_clips, parser_of
from streaming_asr.core.events import Final
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, DecodeJob, Hypothesis, Kind, Recognizer
from streaming_asr.core.scripts import joined
from streaming_asr.core.session import Session
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.recognizers.choose import factory_for
from streaming_asr.voice.detectors import make_detector

TRAILING_S = 2.0
_MS = SAMPLE_RATE // 1000

Change = Callable[[Audio], Audio]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the audio of an utterance begins and ends."""

    pre_roll_ms: int = 300
    tail_ms: int = 96
    change: Change = lambda audio: audio
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"pre-roll {self.pre_roll_ms} ms, tail {self.tail_ms} ms"


def silence_before(ms: int) -> Change:
    """Digital silence before the audio."""
    return lambda audio: np.concatenate([np.zeros(ms * _MS, np.float32), audio])


def to_peak(audio: Audio) -> Audio:
    """As loud as can be."""
    return np.asarray(audio * (0.9 / max(1e-3, float(np.abs(audio).max()))), np.float32)


def to_rms(db: float) -> Change:
    """To one loudness, dB of full scale."""
    return lambda audio: np.asarray(
        audio * (10 ** (db / 20) / max(1e-4, float(np.sqrt((audio**2).mean())))), np.float32
    )


USUAL = Edges()
SETTINGS = (
    USUAL,
    *(Edges(pre_roll_ms=ms) for ms in (100, 200, 250, 350, 400, 500, 800)),
    *(Edges(tail_ms=ms) for ms in (0, 64, 128, 200, 300, 500)),
    Edges(500, 300),
    *(Edges(change=silence_before(ms), name=f"{ms} ms of digital silence before") for ms in (100, 300)),
    Edges(change=to_peak, name="amplified to its peak"),
    Edges(change=to_rms(-23), name="amplified to -23 dB"),
)
WHOLE: tuple[tuple[str, Change], ...] = (
    ("whole files", lambda audio: audio),
    *((f"whole files without their first {ms} ms", lambda audio, ms=ms: audio[ms * _MS :]) for ms in (32, 64, 96, 128)),
    *((f"whole files, {ms} ms of silence before", silence_before(ms)) for ms in (32, 64, 96, 128)),
)


def spoken(audio: Audio, options: SessionOptions, recognizer: Recognizer) -> list[tuple[int, int]]:
    """Where the speech of each utterance begins and ends, in samples."""
    session = Session("edges", options, recognizer.capabilities, make_detector)
    found: list[tuple[int, int]] = []
    number = 0

    def take(events: Sequence[object]) -> None:
        found.extend((event.start_ms * _MS, event.end_ms * _MS) for event in events if isinstance(event, Final))

    now = 0.0
    for start in range(0, len(audio), SAMPLE_RATE // 20):
        now = start / SAMPLE_RATE
        take(session.receive(audio[start : start + SAMPLE_RATE // 20].tobytes(), now))
    take(session.stop(now))
    while (demand := session.demand()) is not None:
        number += 1
        job = demand.take(number, now)
        assert job is not None
        take(session.complete(job.id, Hypothesis(pieces=("x",)), now))
    session.abandon()
    return found


def cut(audio: Audio, spans: Sequence[tuple[int, int]], edges: Edges) -> Iterator[Audio]:
    """The audio of each utterance; none reaches into its neighbour's speech."""
    for number, (first, last) in enumerate(spans):
        floor = spans[number - 1][1] if number else 0
        ceiling = spans[number + 1][0] if number + 1 < len(spans) else len(audio)
        start = max(floor, first - edges.pre_roll_ms * _MS)
        yield edges.change(audio[start : min(ceiling, last + edges.tail_ms * _MS)])


async def measure(given: argparse.Namespace, speech: Sequence[Clip], console: Console) -> None:
    """Decode all clips with all edges, and print a row for each."""
    recognizer = factory_for(given.model).create(given)
    await recognizer.start()
    options = SessionOptions(encoding=Encoding.F32LE).changed(**{"partials": False, **dict(given.options)})
    numbers = iter(range(1, 1 << 30))

    async def text(audio: Audio) -> str:
        number = next(numbers)
        job = DecodeJob(number, Kind.FINAL, f"edges {number}", audio, language="en")
        return (await recognizer.decode(job)).text.strip()

    async def errors(clip: Clip, parts: Sequence[Audio]) -> Errors:
        found = joined([await text(part) for part in parts])
        return count_errors(units(clip.text, clip.language), units(found, clip.language))

    sounds = [clip.audio() for clip in speech]
    longer = [np.concatenate([audio, np.zeros(int(TRAILING_S * SAMPLE_RATE), np.float32)]) for audio in sounds]
    spans = [spoken(audio, options, recognizer) for audio in longer]
    table = Table(title=f"{recognizer.capabilities.model}: {len(speech)} clips, {sum(map(len, spans))} utterances")
    for head in ("audio", "errors", "rate", "95 % of the difference to the first row"):
        table.add_column(head)
    first: list[Errors] = []

    def row(name: str, found: list[Errors]) -> None:
        nonlocal first
        first = first or found
        low, high = difference_interval(found, first) or (0.0, 0.0)
        total = pooled(found)
        cells = (name, str(total.total), f"{100 * total.rate:.2f} %", f"{100 * low:+.2f} to {100 * high:+.2f}")
        print(given.model, " | ".join(cells), flush=True)
        table.add_row(*cells)

    for edges in SETTINGS:
        row(
            str(edges),
            [
                await errors(clip, list(cut(audio, of_clip, edges)))
                for clip, audio, of_clip in zip(speech, longer, spans, strict=True)
            ],
        )
    for name, change in WHOLE:
        row(name, [await errors(clip, [change(audio)]) for clip, audio in zip(speech, sounds, strict=True)])
    await recognizer.close()
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    limit_blas_threads()
    parser = parser_of("benchmarks.studies.edges", __doc__, "librispeech")
    given = parser.parse_args(argv)
    given.options = given.options or [("profile", "captions")]
    asyncio.run(measure(given, chosen_clips(parser, given), Console()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
