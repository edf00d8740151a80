"""What the embedded recognizer pays and gains by giving Whisper's encoder less than 30 s.

    python -m benchmarks.studies.encoder_floor --speech DIR [--sets NAME ...]
        [--only finals partials speed context plain]

DIR holds folders of speech, each with a ``manifest.jsonl`` whose lines have ``path``, ``text`` and ``language``; those
that end in ``long_form`` also have ``segments``. Prints Markdown tables. Word errors are counted after Whisper's own
English normalization.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile
import soxr
from whisper_normalizer.english import EnglishTextNormalizer

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context, DecodeJob, Hypothesis, Kind
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.recognizers.whisper.decoding import Options, Padding
from streaming_asr.recognizers.whisper.prompt import WINDOW_S
from streaming_asr.recognizers.whisper.recognizer import FasterWhisperRecognizer
from streaming_asr.recognizers.whisper.weights import find_weights

SETS = ("librispeech+librispeech_speakers", "ljspeech+telephone_8k")
FINALS = (Padding(10, 0), Padding(10, 2), Padding(12, 3), Padding(15, 6), Padding(15, 8), Padding(WINDOW_S, 0))
PARTIALS = (Padding(5, 1), Padding(8, 2), Padding(10, 2), Padding(12, 3), Padding(15, 3), Padding(WINDOW_S, 0))
BEAMS = (1, 5)
CUTS_S = (1, 2, 3, 4, 6, 8)
EARLIER_FINALS = (0, 1, 3)
LENGTHS_S = (1, 3, 6, 10, 15, 20, 29)

normal: Callable[[str], str] = EnglishTextNormalizer()


@dataclass(frozen=True)
class Clip:
    audio: Audio
    text: str
    """What is said, normalized."""


def main() -> None:
    limit_blas_threads()
    parts = {"finals": finals, "partials": partials, "speed": speed, "context": context, "plain": plain}
    parser = argparse.ArgumentParser(description="Measure short encoder input with the embedded recognizer.")
    parser.add_argument("--speech", type=Path, required=True, help="folder of speech sets")
    parser.add_argument(
        "--sets", nargs="+", default=SETS, help="folders in it, those joined by + counted as one (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="what to measure (default: all)")
    parser.add_argument("--model", help="CTranslate2 Whisper (default: the built-in tiny.en)")
    options = parser.parse_args()
    for name in options.only:
        parts[name](options)


def finals(options: argparse.Namespace) -> None:
    """Word errors of whole utterances, by padding and beam."""
    table("Finals: word error rate, and utterances decoded again because they looped", "padding", "beam", *options.sets)
    for beam in BEAMS:
        for padding in FINALS:
            with Recognizer(options.model, Options(final=padding, beam_size=beam)) as recognizer:
                cells = []
                for name in options.sets:
                    clips = clips_of(options, name)
                    found = [recognizer.decode(clip.audio) for clip in clips]
                    rate = word_error_rate([clip.text for clip in clips], [one.text for one in found])
                    cells.append(f"{rate:.2f} % ({again(found)})")
            row(called(padding), beam, *cells)


def partials(options: argparse.Namespace) -> None:
    """Word errors of utterances cut short, against the best beginning of what is said."""
    clips = clips_of(options, options.sets[0])[::2]
    table(
        f"Partials of {options.sets[0]}: word errors at a cut, and cuts decoded again because they looped",
        "padding",
        *(f"{cut} s" for cut in CUTS_S),
    )
    for padding in PARTIALS:
        with Recognizer(options.model, Options(partial=padding)) as recognizer:
            cells = []
            for cut in CUTS_S:
                whole = [clip for clip in clips if len(clip.audio) > cut * SAMPLE_RATE]
                found = [recognizer.decode(clip.audio[: cut * SAMPLE_RATE], Kind.PARTIAL) for clip in whole]
                hypotheses = [normal(one.text).split() for one in found]
                errors = sum(
                    errors_so_far(clip.text.split(), words) for clip, words in zip(whole, hypotheses, strict=True)
                )
                cells.append(f"{100 * errors / max(1, sum(map(len, hypotheses))):.1f} % ({again(found)})")
        row(called(padding), *cells)


def speed(options: argparse.Namespace) -> None:
    """Time of decodes by length, one worker with one thread."""
    speech = np.concatenate([clip.audio for clip in clips_of(options, options.sets[0])[:5]])
    for kind, padding in ((Kind.PARTIAL, Options().partial), (Kind.FINAL, Options().final)):
        table(
            f"{kind.name.capitalize()}s: median ms to encode + the rest",
            "audio",
            f"padded to {called(padding)}",
            "padded to 30 s",
        )
        for seconds in LENGTHS_S:
            cells = []
            for padded in (padding, Padding(WINDOW_S, 0)):
                with Recognizer(options.model, Options(partial=padded, final=padded)) as recognizer:
                    costs = [recognizer.decode(speech[: seconds * SAMPLE_RATE], kind).cost for _ in range(5)]
                encode = statistics.median(cost.encode_s for cost in costs)
                rest = statistics.median(cost.decode_s for cost in costs)
                cells.append(f"{1000 * encode:.0f} + {1000 * rest:.0f}")
            row(f"{seconds} s", *cells)


def context(options: argparse.Namespace) -> None:
    """Word errors of long recordings when each utterance has the finals before it as context."""
    folder = options.speech / "long_form"
    recordings = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    table("Earlier finals as context: word error rate", "finals", *(recording["id"] for recording in recordings))
    for count in EARLIER_FINALS:
        with Recognizer(options.model, Options()) as recognizer:
            cells = []
            for recording in recordings:
                audio = read(folder / recording["path"])
                said: list[str] = []
                for _, start, end in recording["segments"]:
                    part = audio[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
                    previous = " ".join(said[-count:] if count else [])
                    said.append(recognizer.decode(part, context=Context(previous=previous)).text)
                cells.append(f"{word_error_rate([normal(recording['text'])], [' '.join(said)]):.2f} %")
        row(count, *cells)


def plain(options: argparse.Namespace) -> None:
    """The same weights by faster-whisper's own ``transcribe``, as one would call it without this project."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(find_weights(options.model)), device="cpu", compute_type="int8", cpu_threads=1)
    table("faster-whisper's transcribe(): word error rate, mean ms", "beam", *options.sets)
    for beam in BEAMS:
        cells = []
        for name in options.sets:
            clips = clips_of(options, name)
            begun = time.perf_counter()
            hypotheses = []
            for clip in clips:
                segments, _ = model.transcribe(clip.audio, beam_size=beam, language="en")
                hypotheses.append("".join(segment.text for segment in segments))
            mean_ms = 1000 * (time.perf_counter() - begun) / len(clips)
            cells.append(f"{word_error_rate([clip.text for clip in clips], hypotheses):.2f} %, {mean_ms:.0f} ms")
        row(beam, *cells)


class Recognizer:
    """The embedded recognizer with one worker, asked one job at a time."""

    def __init__(self, model: str | None, options: Options) -> None:
        self._recognizer = FasterWhisperRecognizer(model, device="cpu", workers=1, options=options)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Recognizer:
        self._loop.run_until_complete(self._recognizer.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._recognizer.close())
        self._loop.close()

    def decode(self, audio: Audio, kind: Kind = Kind.FINAL, **job: Any) -> Hypothesis:
        return self._loop.run_until_complete(self._recognizer.decode(DecodeJob(0, kind, "", audio, **job)))


def clips_of(options: argparse.Namespace, sets: str) -> list[Clip]:
    """English clips that Whisper takes whole."""
    clips = []
    for folder in (options.speech / name for name in sets.split("+")):
        for line in (folder / "manifest.jsonl").read_text().splitlines():
            clip = json.loads(line)
            if clip["language"] == "en" and clip["text"] and clip["duration_s"] <= WINDOW_S:
                clips.append(Clip(read(folder / clip["path"]), normal(clip["text"])))
    return clips


def read(path: Path) -> Audio:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    audio: Audio = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE).astype(np.float32)
    return audio


def word_error_rate(said: Sequence[str], hypotheses: Sequence[str]) -> float:
    """In percent."""
    return 100 * float(jiwer.wer(list(said), [normal(text) for text in hypotheses]))


def errors_so_far(said: Sequence[str], hypotheses: Sequence[str]) -> int:
    """Word edits between `hypotheses` and the beginning of `said` that is nearest to it."""
    edits = list(range(len(said) + 1))
    for count, word in enumerate(hypotheses, 1):
        before, edits = edits, [count]
        for n, other in enumerate(said):
            edits.append(min(edits[n] + 1, before[n + 1] + 1, before[n] + (word != other)))
    return min(edits)


def again(found: Sequence[Hypothesis]) -> int:
    return sum(one.cost.decodes > 1 for one in found)


def called(padding: Padding) -> str:
    if padding.floor_s >= WINDOW_S:
        return "30 s"
    return f"{padding.floor_s:.0f} s, tail {padding.tail_s:.0f} s"


def table(title: str, *columns: object) -> None:
    print(f"\n{title}\n", flush=True)
    row(*columns)
    row(*("---" for _ in columns))


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
