"""What each voice detector misses, mistakes for speech, and costs: the table of docs/vad.md.

    python -m benchmarks.vad --speech DIR

Where speech surely is, is told by level alone, independently of the detectors: runs of at least 50 ms within 20 dB of
the clip's loudest tenth. That leaves out soft sounds at the edges of words; the pre-roll is there for them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.speech import NoSpeech, add_speech_option, clips
from streaming_asr.recognizers.base import SAMPLE_RATE, Audio
from streaming_asr.segmenter import Boundary, Mark, Segmenter
from streaming_asr.settings import SessionOptions
from streaming_asr.vad import CascadeDetector, SileroDetector, VoiceDetector, WebRtcDetector

LOUD_DB = 20.0
_SHORTEST_LOUD = 5
"""Reference frames; a shorter run may be a click."""
_REFERENCE = SAMPLE_RATE // 100
"""Samples of one reference frame."""
_LEAD_S, _TAIL_S = 1.0, 2.0
"""Room noise put before and after each clip, at the level of its own quietest tenth."""
_QUIET_S = 30

DETECTORS: dict[str, Callable[[], VoiceDetector]] = {
    **{f"webrtc, mode {mode}": lambda mode=mode: WebRtcDetector(mode) for mode in range(4)},  # type: ignore[misc]
    **{f"silero, {on}": lambda on=on: SileroDetector(on) for on in (0.3, 0.5, 0.7)},  # type: ignore[misc]
    **{
        f"cascade, mode {mode}, {on}": lambda mode=mode, on=on: CascadeDetector(on, mode)  # type: ignore[misc]
        for mode, on in ((0, 0.5), (2, 0.5), (3, 0.3), (3, 0.5), (3, 0.7))
    },
}
DEFAULT = "cascade, mode 3, 0.5"
ONSETS_MS = (32, 64, 96, 128, 192, 256)


@dataclass(frozen=True)
class Row:
    """What one detector did with one onset rule."""

    detector: str
    onset_ms: int
    missed: float
    """Share of loud speech outside every utterance."""
    clipped_onsets: float
    """Share of clips whose first loud frame is outside every utterance, in spite of the pre-roll."""
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


def measure(
    name: str, make: Callable[[], VoiceDetector], spoken: Sequence[Audio], other: Sequence[Audio], onset_ms: int
) -> Row:
    """Run one detector with the default segmentation over both kinds of audio."""
    options = SessionOptions(onset_ms=onset_ms)
    assert options.endpoint_ms is not None
    missed = loud_frames = clipped = opened = 0
    late: list[float] = []
    cpu_spoken = cpu_other = inside = 0.0
    for clip in spoken:
        loud = loud_positions(clip)
        heard, boundaries, cpu = _segment(make(), clip, options)
        cpu_spoken += cpu
        within = np.zeros(len(clip) + 1, bool)
        for start, end in _spans(boundaries, len(clip)):
            within[start:end] = True
        hit = within[loud]
        missed += int(np.count_nonzero(~hit))
        loud_frames += len(hit)
        clipped += not hit[0]
        ends = (at for at, boundary in zip(heard, boundaries, strict=True) if boundary.mark is Mark.END)
        if ended := next((at for at in ends if at > loud[-1]), None):
            late.append((ended - loud[-1] - _REFERENCE) / SAMPLE_RATE * 1000 - options.endpoint_ms)
    for clip in other:
        _, boundaries, cpu = _segment(make(), clip, options)
        cpu_other += cpu
        inside += sum(end - start for start, end in _spans(boundaries, len(clip)))
        opened += sum(boundary.mark is Mark.ONSET for boundary in boundaries)
    _, _, cpu_quiet = _segment(make(), _quiet_room(), options)
    spoken_s = sum(map(len, spoken)) / SAMPLE_RATE
    other_s = sum(map(len, other)) / SAMPLE_RATE
    return Row(
        detector=name,
        onset_ms=onset_ms,
        missed=missed / loud_frames,
        clipped_onsets=clipped / len(spoken),
        flagged=inside / SAMPLE_RATE / other_s,
        false_per_minute=60 * opened / other_s,
        never_ended=1 - len(late) / len(spoken),
        late_ms=statistics.median(late),
        late_p95_ms=float(np.percentile(late, 95)),
        speech_cpu_ms=1000 * cpu_spoken / spoken_s,
        other_cpu_ms=1000 * cpu_other / other_s,
        quiet_cpu_ms=1000 * cpu_quiet / _QUIET_S,
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


def _quiet_room() -> Audio:
    return np.random.default_rng(1).normal(0, 1e-4, _QUIET_S * SAMPLE_RATE).astype(np.float32)


def _segment(detector: VoiceDetector, clip: Audio, options: SessionOptions) -> tuple[list[int], list[Boundary], float]:
    """Where each boundary became known, the boundaries, and the detector's CPU seconds; 100 ms at a time, as live."""
    frame = detector.frame_samples
    frames = clip[: len(clip) // frame * frame].reshape(-1, frame)
    segmenter = Segmenter(frame, options)
    heard: list[int] = []
    boundaries: list[Boundary] = []
    cpu = 0.0
    step = max(1, SAMPLE_RATE // 10 // frame)
    for start in range(0, len(frames), step):
        chunk = frames[start : start + step]
        began = time.process_time()
        voiced = detector.voiced(chunk)
        cpu += time.process_time() - began
        levels = 10 * np.log10(np.maximum((chunk**2).mean(axis=1), 1e-12))
        for index in range(len(chunk)):
            new = segmenter.push(voiced[index : index + 1], levels[index : index + 1].astype(np.float32))
            heard += [segmenter.position] * len(new)
            boundaries += new
    new = segmenter.finalize(len(clip))
    # An end that only the end of the clip brought is no endpoint.
    boundaries += [Boundary(Mark.CUT, b.position, b.speech) if b.mark is Mark.END else b for b in new]
    heard += [len(clip)] * len(new)
    return heard, boundaries, cpu


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
        "missed",
        "onsets clipped",
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
            f"{row.missed:.2%}",
            f"{row.clipped_onsets:.1%}",
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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vad", description=__doc__.splitlines()[0])
    add_speech_option(parser)
    parser.add_argument("--sets", nargs="+", default=["librispeech", "ljspeech", "telephone_8k"], metavar="SET")
    parser.add_argument("--nonspeech", default="nonspeech", metavar="SET")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(argv)
    try:
        spoken = [in_room(clip.audio()) for name in options.sets for clip in clips(options.speech, name)]
        other = [audio for clip in clips(options.speech, options.nonspeech) if len(audio := clip.audio())]
    except NoSpeech as error:
        parser.exit(1, f"{error}\n")
    onset_ms = SessionOptions().onset_ms
    work = [(name, onset_ms) for name in DETECTORS] + [(DEFAULT, onset) for onset in ONSETS_MS]
    console = Console(stderr=True)
    rows = [
        measure(name, DETECTORS[name], spoken, other, onset)
        for name, onset in track(work, "Measuring", console=console)
    ]
    shown = Console(width=180)
    shown.print(as_table(rows[: len(DETECTORS)], "Detectors"))
    shown.print(as_table(rows[len(DETECTORS) :], f"Onset rules of {DEFAULT}"))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
