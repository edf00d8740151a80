"""What a long silence within an utterance costs, and so when speech that goes on should be another utterance.

    python -m benchmarks.studies.gaps --speech DIR --set librispeech --clips 60 --model tiny.en

A silence is put into the quietest spot in the middle of each clip, with noise as loud as the clip's quietest parts. The
clip is then decoded as one utterance, or as two. The results are in docs/decisions.md.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.word_errors import Errors, count_errors, difference_interval, pooled
from benchmarks.common.normalization import units
from benchmarks.common.speech import Clip
from benchmarks.common.study import chosen_clips, parser_of
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, DecodeJob, Kind
from streaming_asr.core.scripts import joined
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.recognizers.choose import factory_for

GAPS_S = (0.5, 1, 2, 5, 10, 15)
LONGEST_S = 14.5
"""Longest clip: with the longest gap it fits into one window of Whisper."""
_FRAME = SAMPLE_RATE // 50
_SPOT = 10
"""Frames of the quietest spot."""
_QUIET = 5
"""Percentile of the frames' loudness that is taken for the noise of the room."""


def halves(audio: Audio) -> tuple[Audio, Audio]:
    """The audio before and after the quietest spot of its middle half."""
    quarter = len(audio) // 4
    frames = audio[quarter : 3 * quarter][: 2 * quarter // _FRAME * _FRAME].reshape(-1, _FRAME)
    loudness = np.convolve((frames**2).mean(axis=1), np.ones(_SPOT), mode="valid")
    middle = quarter + (int(loudness.argmin()) + _SPOT // 2) * _FRAME
    return audio[:middle], audio[middle:]


def room_noise(audio: Audio, seconds: float) -> Audio:
    """White noise as loud as the quiet parts of the audio."""
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = float(np.percentile(np.sqrt((frames**2).mean(axis=1)), _QUIET))
    noise = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    return np.asarray(level * noise, np.float32)


async def measure(given: argparse.Namespace, speech: Sequence[Clip], console: Console) -> None:
    """Decode all clips with all gaps, and print a row for each."""
    recognizer = factory_for(given.model).create(given)
    await recognizer.start()
    numbers = iter(range(1, 1 << 30))

    async def text(audio: Audio) -> str:
        number = next(numbers)
        job = DecodeJob(number, Kind.FINAL, f"gaps {number}", audio, language="en")
        return (await recognizer.decode(job)).text.strip()

    sounds = [halves(clip.audio()) for clip in speech]
    table = Table(title=f"{recognizer.capabilities.model}: {len(speech)} clips")
    for head in ("silence", "errors", "inserted", "rate", "95 % of the difference to the first row", "CPU, s"):
        table.add_column(head)
    first: list[Errors] = []
    for gap_s in (0.0, None, *GAPS_S):
        found: list[Errors] = []
        began = time.process_time()
        for clip, (before, after) in zip(speech, sounds, strict=True):
            if gap_s is None:
                recognized = joined([await text(before), await text(after)])
            else:
                gap = room_noise(np.concatenate([before, after]), gap_s)
                recognized = await text(np.concatenate([before, gap, after]))
            found.append(count_errors(units(clip.text, clip.language), units(recognized, clip.language)))
        cpu_s = time.process_time() - began
        first = first or found
        low, high = difference_interval(found, first) or (0.0, 0.0)
        total = pooled(found)
        cells = (
            "two utterances" if gap_s is None else f"{gap_s:g} s",
            str(total.total),
            str(total.inserted),
            f"{100 * total.rate:.2f} %",
            f"{100 * low:+.2f} to {100 * high:+.2f}",
            f"{cpu_s:.0f}",
        )
        print(given.model, " | ".join(cells), flush=True)
        table.add_row(*cells)
    await recognizer.close()
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    limit_blas_threads()
    parser = parser_of("benchmarks.studies.gaps", __doc__, "librispeech", sessions=False)
    given = parser.parse_args(argv)
    speech = chosen_clips(parser, given, lambda clip: len(clip.audio()) <= LONGEST_S * SAMPLE_RATE)
    asyncio.run(measure(given, speech, Console()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
