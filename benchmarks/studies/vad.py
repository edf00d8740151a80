"""What each voice detector misses, mistakes for speech, and costs: the table of docs/vad.md.

    python -m benchmarks.studies.vad --speech DIR

Level alone says where speech surely is, independently of the detectors: runs of at least 50 ms within 20 dB of
the clip's loudest tenth. That leaves out soft sounds at the edges of words; the pre-roll is there for them.

Each detector gets every clip twice: in its own room noise, and over one of the recordings of non-speech, which begins
before the speech and outlasts it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common.measures.turns import Coverage, coverage, together
from benchmarks.common.speech import Clip, NoSpeech, add_speech_option, clips
from benchmarks.common.stats import percentiles
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.segmenter import Boundary, Mark, Segmenter
from streaming_asr.core.voice import VoiceDetector, run_inline
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.voice.adaptive import AdaptiveDetector, ThoroughDetector
from streaming_asr.voice.detectors import CascadeDetector, SileroDetector, WebRtcDetector

LOUD_DB = 20.0
_SHORTEST_LOUD = 5
"""Reference frames; a shorter run may be a click."""
_REFERENCE = SAMPLE_RATE // 100
"""Samples of one reference frame."""
_LEAD_S, _TAIL_S = 1.0, 2.0
"""Room noise put before and after each clip, at the level of its own quietest tenth."""
_QUIET_S = 30
_SILENT_POWER = 1e-6
_BED_DB = 15.0
"""How far below the loud speech the non-speech under it is."""
_HANGOVER = SAMPLE_RATE // 5
"""Samples after a voiced frame that count as voiced, too, for `unvoiced`."""

DETECTORS: dict[str, Callable[[], VoiceDetector]] = {
    **{f"adaptive, {on}": lambda on=on: AdaptiveDetector(on) for on in (0.3, 0.5, 0.7)},  # type: ignore[misc]
    "thorough, 0.5": ThoroughDetector,
    **{f"webrtc, mode {mode}": lambda mode=mode: WebRtcDetector(mode) for mode in range(4)},  # type: ignore[misc]
    **{f"silero, {on}": lambda on=on: SileroDetector(on) for on in (0.3, 0.5, 0.7)},  # type: ignore[misc]
    **{
        f"cascade, mode {mode}, {on}": lambda mode=mode, on=on: CascadeDetector(on, mode)  # type: ignore[misc]
        for mode, on in ((0, 0.5), (2, 0.5), (3, 0.3), (3, 0.5), (3, 0.7))
    },
}
DEFAULT = "adaptive, 0.5"
COMPARED = ("webrtc, mode 3", "silero, 0.5", "cascade, mode 3, 0.5", DEFAULT, "thorough, 0.5")
"""Those whose figures are also given set by set, over non-speech of several levels, and on talk."""
QUIETER_DB = (0, 20, 30)
MIXED_DB = (20, 10, 5)
"""How far below the speech the non-speech under it is in the further tables."""
ONSETS_MS = (32, 64, 96, 128, 192, 256)
PRE_ROLLS_MS = (0, 100, 200, 300, 400)


@dataclass(frozen=True)
class Row:
    """What one detector did with one way of segmenting."""

    detector: str
    onset_ms: int
    pre_roll_ms: int
    unvoiced: float
    """Share of loud speech that is called unvoiced, 200 ms after a voiced frame at the soonest."""
    missed: float
    """Share of loud speech outside every utterance."""
    split: float
    """Share of clips with more than one utterance that holds loud speech."""
    clipped_onsets: float
    """Share of clips whose first loud frame is outside every utterance, in spite of the pre-roll."""
    opened_ms: float
    """Median time from the first loud frame to the knowledge that an utterance began."""
    opened_p95_ms: float
    flagged: float
    """Share of the non-speech that is inside utterances."""
    false_per_minute: float
    """Utterances opened in a minute of non-speech."""
    never_ended: float
    """Share of clips without an endpoint in the two seconds of room noise after them."""
    late_ms: float
    """Median time from the end of speech to the endpoint, less the endpoint's own silence."""
    late_p95_ms: float
    speech_cpu_ms: float
    """CPU of the detector for a second of speech."""
    other_cpu_ms: float
    """The same for non-speech."""
    quiet_cpu_ms: float
    """The same for a quiet room."""


@dataclass(frozen=True)
class Spoken:
    audio: Audio
    loud: NDArray[np.intp]
    """First sample of each frame that is surely speech, ascending."""


@dataclass(frozen=True)
class Detected:
    """What one detector and the default segmentation made of one recording."""

    voiced: NDArray[np.bool_]
    """Shape ``[samples]``."""
    boundaries: list[Boundary]
    known: list[int]
    """The position at which each boundary became known."""
    cpu_s: float
    """Of the detector alone."""


def measure(
    name: str,
    make: Callable[[], VoiceDetector],
    spoken: Sequence[Spoken],
    other: Sequence[Audio],
    options: SessionOptions,
) -> Row:
    """Run one detector over both kinds of audio."""
    assert options.endpoint_ms is not None
    unvoiced = missed = loud_frames = clipped = split = false_starts = 0
    opened: list[float] = []
    late: list[float] = []
    cpu_spoken = cpu_other = inside = 0.0
    for clip in spoken:
        detected = _segment(make(), clip.audio, options)
        cpu_spoken += detected.cpu_s
        spans = _spans(detected.boundaries, len(clip.audio))
        within = np.zeros(len(clip.audio), bool)
        for start, end in spans:
            within[start:end] = True
        hit = within[clip.loud]
        missed += int(np.count_nonzero(~hit))
        unvoiced += int(np.count_nonzero(~_held(detected.voiced)[clip.loud]))
        loud_frames += len(hit)
        clipped += not hit[0]
        split += sum(bool(((clip.loud >= start) & (clip.loud < end)).any()) for start, end in spans) > 1
        # The utterance that holds the first of the speech, or the first one after it; not an earlier false start.
        first = next((number for number, (_, end) in enumerate(spans) if end > clip.loud[0]), None)
        if first is not None:
            opened.append((_known(detected, Mark.ONSET)[first] - clip.loud[0]) / SAMPLE_RATE * 1000)
        if ended := next((at for at in _known(detected, Mark.END) if at > clip.loud[-1]), None):
            late.append((ended - clip.loud[-1] - _REFERENCE) / SAMPLE_RATE * 1000 - options.endpoint_ms)
    for audio in other:
        detected = _segment(make(), audio, options)
        cpu_other += detected.cpu_s
        inside += sum(end - start for start, end in _spans(detected.boundaries, len(audio)))
        false_starts += len(_known(detected, Mark.ONSET))
    quiet = _segment(make(), _quiet_room(), options)
    spoken_s = sum(len(clip.audio) for clip in spoken) / SAMPLE_RATE
    other_s = sum(map(len, other)) / SAMPLE_RATE
    opened_ms, opened_p95_ms = percentiles(opened, 50, 95) or (math.nan, math.nan)
    late_ms, late_p95_ms = percentiles(late, 50, 95) or (math.nan, math.nan)
    return Row(
        detector=name,
        onset_ms=options.onset_ms,
        pre_roll_ms=options.pre_roll_ms,
        unvoiced=unvoiced / loud_frames,
        missed=missed / loud_frames,
        split=split / len(spoken),
        clipped_onsets=clipped / len(spoken),
        opened_ms=opened_ms,
        opened_p95_ms=opened_p95_ms,
        flagged=inside / SAMPLE_RATE / other_s,
        false_per_minute=60 * false_starts / other_s,
        never_ended=1 - len(late) / len(spoken),
        late_ms=late_ms,
        late_p95_ms=late_p95_ms,
        speech_cpu_ms=1000 * cpu_spoken / spoken_s,
        other_cpu_ms=1000 * cpu_other / other_s,
        quiet_cpu_ms=1000 * quiet.cpu_s / _QUIET_S,
    )


def loud_positions(clip: Audio) -> NDArray[np.intp]:
    """First sample of each frame that is surely speech, ascending."""
    frames = clip[: len(clip) // _REFERENCE * _REFERENCE].reshape(-1, _REFERENCE)
    level = 10 * np.log10(np.maximum((frames**2).mean(axis=1), 1e-12))
    loud = level >= np.percentile(level, 90) - LOUD_DB
    long = np.convolve(loud, np.ones(_SHORTEST_LOUD), mode="valid") == _SHORTEST_LOUD
    return np.flatnonzero(np.convolve(long, np.ones(_SHORTEST_LOUD)) > 0) * _REFERENCE


def in_room(clip: Audio) -> Audio:
    """The clip with its own room noise before and after, so that its end can be found."""
    frames = clip[: len(clip) // _REFERENCE * _REFERENCE].reshape(-1, _REFERENCE)
    floor = float(np.sqrt(np.percentile((frames**2).mean(axis=1), 10)))
    noise = np.random.default_rng(0).normal(0, max(floor, 1e-5), int((_LEAD_S + _TAIL_S) * SAMPLE_RATE))
    lead = int(_LEAD_S * SAMPLE_RATE)
    return np.concatenate([noise[:lead], clip, noise[lead:]]).astype(np.float32)


def over(bed: Audio, clip: Spoken, below_db: float = _BED_DB) -> Spoken:
    """The clip with other sounds under all of it, from before the speech until after it."""
    loud = clip.audio[clip.loud[:, None] + np.arange(_REFERENCE)]
    under = np.resize(bed, len(clip.audio))
    gain = np.sqrt((loud**2).mean() / (under**2).mean()) * 10 ** (-below_db / 20)
    mixed = clip.audio + gain * under
    return Spoken((mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32), clip.loud)


def talk_coverage(make: Callable[[], VoiceDetector], talk: Sequence[Clip], quieter_db: float) -> Coverage:
    """How the utterances of recorded talk cover its turns, in 16 bits."""
    parts = []
    for clip in talk:
        audio = (np.round(clip.audio() * 10 ** (-quieter_db / 20) * 32768) / 32768).astype(np.float32)
        boundaries = _segment(make(), audio, SessionOptions()).boundaries
        starts = [b.speech / SAMPLE_RATE for b in boundaries if b.mark is Mark.ONSET]
        ends = [b.speech / SAMPLE_RATE for b in boundaries if b.mark in (Mark.END, Mark.CUT)]
        turns = [(start, end) for _, start, end in clip.turns]
        parts.append(coverage(len(audio) / SAMPLE_RATE, turns, list(zip(starts, ends, strict=True))))
    return together(parts)


def _quiet_room() -> Audio:
    return np.random.default_rng(1).normal(0, 1e-4, _QUIET_S * SAMPLE_RATE).astype(np.float32)


def _segment(detector: VoiceDetector, clip: Audio, options: SessionOptions) -> Detected:
    """100 ms at a time, as live."""
    frame = detector.frame_samples
    frames = clip[: len(clip) // frame * frame].reshape(-1, frame)
    segmenter = Segmenter(frame, options)
    known: list[int] = []
    boundaries: list[Boundary] = []
    decisions: list[NDArray[np.bool_]] = []
    cpu = 0.0
    step = max(1, SAMPLE_RATE // 10 // frame)
    for start in range(0, len(frames), step):
        chunk = frames[start : start + step]
        began = time.process_time()
        voiced = run_inline(detector.detect(chunk))
        cpu += time.process_time() - began
        decisions.append(voiced)
        levels = 10 * np.log10(np.maximum((chunk**2).mean(axis=1), 1e-12))
        for index in range(len(chunk)):
            new = segmenter.push(voiced[index : index + 1], levels[index : index + 1].astype(np.float32))
            known += [segmenter.position] * len(new)
            boundaries += new
    new = segmenter.finalize(len(clip))
    # An end that only the end of the clip caused is not an endpoint.
    boundaries += [Boundary(Mark.CUT, b.position, b.speech) if b.mark is Mark.END else b for b in new]
    known += [len(clip)] * len(new)
    voiced = np.zeros(len(clip), bool)
    voiced[: frames.size] = np.repeat(np.concatenate(decisions), frame) if decisions else False
    return Detected(voiced, boundaries, known, cpu)


def _held(voiced: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each voiced sample and the hangover after it."""
    positions = np.arange(len(voiced))
    latest = np.maximum.accumulate(np.where(voiced, positions, -_HANGOVER - 1))
    held: NDArray[np.bool_] = positions - latest <= _HANGOVER
    return held


def _known(detected: Detected, mark: Mark) -> list[int]:
    """When each boundary of a kind became known."""
    return [at for at, boundary in zip(detected.known, detected.boundaries, strict=True) if boundary.mark is mark]


def _spans(boundaries: Sequence[Boundary], length: int) -> list[tuple[int, int]]:
    """``[start, end)`` of the utterances."""
    starts = [b.position for b in boundaries if b.mark is Mark.ONSET]
    ends = [b.position for b in boundaries if b.mark in (Mark.END, Mark.CUT)]
    return list(itertools.zip_longest(starts, ends, fillvalue=length))


def as_table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=f"{title} (CPU in ms for a second of audio)")
    heads = (
        "detector",
        "onset",
        "pre-roll",
        "unvoiced",
        "missed",
        "split",
        "onsets clipped",
        "opened p50",
        "opened p95",
        "non-speech flagged",
        "false/min",
        "never ended",
        "late p50",
        "late p95",
    )
    for head in (*heads, "CPU speech", "CPU other", "CPU quiet"):
        table.add_column(head, justify="left" if head == "detector" else "right")
    for row in rows:
        table.add_row(
            row.detector,
            f"{row.onset_ms} ms",
            f"{row.pre_roll_ms} ms",
            f"{row.unvoiced:.1%}",
            f"{row.missed:.3%}",
            f"{row.split:.0%}",
            f"{row.clipped_onsets:.1%}",
            f"{row.opened_ms:.0f} ms",
            f"{row.opened_p95_ms:.0f} ms",
            f"{row.flagged:.1%}",
            f"{row.false_per_minute:.1f}",
            f"{row.never_ended:.1%}",
            f"{row.late_ms:.0f} ms",
            f"{row.late_p95_ms:.0f} ms",
            f"{row.speech_cpu_ms:.2f}",
            f"{row.other_cpu_ms:.2f}",
            f"{row.quiet_cpu_ms:.2f}",
        )
    return table


def _spoken(clip: Clip) -> Spoken:
    audio = in_room(clip.audio())
    return Spoken(audio, loud_positions(audio))


def _talk_table(talk: Sequence[Clip]) -> Table:
    table = Table(title="Talk: missed / outside the turns, in an utterance / utterances")
    table.add_column("detector")
    for db in QUIETER_DB:
        table.add_column(f"{db} dB quieter", justify="right")
    for name in track(COMPARED, "Talk", console=Console(stderr=True)):
        found = [talk_coverage(DETECTORS[name], talk, db) for db in QUIETER_DB]
        table.add_row(name, *(f"{one.missed:.1%} / {one.false:.2%} / {one.utterances}" for one in found))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    limit_blas_threads()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.vad", description=__doc__.splitlines()[0])
    add_speech_option(parser)
    parser.add_argument("--sets", nargs="+", default=["librispeech", "ljspeech", "telephone_8k"], metavar="SET")
    parser.add_argument("--nonspeech", default="nonspeech", metavar="SET")
    parser.add_argument("--talk", default="conversation", metavar="SET", help="set with turns; empty: none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(argv)
    try:
        by_set = {name: [_spoken(clip) for clip in clips(options.speech, name)] for name in options.sets}
        talk = clips(options.speech, options.talk) if options.talk else []
        other = [audio for clip in clips(options.speech, options.nonspeech) if len(audio := clip.audio())]
    except NoSpeech as error:
        parser.exit(1, f"{error}\n")
    spoken = [clip for one in by_set.values() for clip in one]
    beds = [audio for audio in other if float((audio**2).mean()) > _SILENT_POWER]
    if not spoken or not beds:
        parser.exit(1, "there must be clips of speech, and of non-speech that is not silence\n")
    over_beds = [over(bed, clip) for bed, clip in zip(itertools.cycle(beds), spoken, strict=False)]
    default = SessionOptions()
    tables: dict[str, list[tuple[str, SessionOptions, list[Spoken]]]] = {
        "Detectors": [(name, default, spoken) for name in DETECTORS],
        f"The same, over non-speech {_BED_DB:.0f} dB below": [(name, default, over_beds) for name in DETECTORS],
        f"Onset rules of {DEFAULT}": [(DEFAULT, default.changed(onset_ms=onset), spoken) for onset in ONSETS_MS],
        f"Pre-rolls of {DEFAULT}, in a room, then over non-speech": [
            (DEFAULT, default.changed(pre_roll_ms=pre_roll), said)
            for said in (spoken, over_beds)
            for pre_roll in PRE_ROLLS_MS
        ],
        **{f"Set {name}": [(detector, default, said) for detector in COMPARED] for name, said in by_set.items()},
    }
    for below_db in MIXED_DB:
        mixed = [over(bed, clip, below_db) for bed, clip in zip(itertools.cycle(beds), spoken, strict=False)]
        tables[f"Over non-speech {below_db} dB below"] = [(detector, default, mixed) for detector in COMPARED]
    shown = Console(width=220)
    figures: dict[str, list[dict[str, object]]] = {}
    for title, work in tables.items():
        rows = [
            measure(name, DETECTORS[name], said, other, segmentation)
            for name, segmentation, said in track(work, title, console=Console(stderr=True))
        ]
        shown.print(as_table(rows, title))
        figures[title] = [asdict(row) for row in rows]
    if talk:
        shown.print(_talk_table(talk))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
