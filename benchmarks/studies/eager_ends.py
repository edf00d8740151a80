"""How many eager ends of turns are taken back, and how long before the end the others come: docs/turns.md.

    python -m benchmarks.studies.eager_ends --speech DIR --set conversation --model tiny.en

Sessions with `--option`s (default: endpointing=turn) on the clock of the recording: a decode takes 100 ms and a
judgement 50 ms, as in `benchmarks.turns`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common.speech import Clip
from benchmarks.common.stats import percentiles
from benchmarks.common.study import chosen_clips, parser_of
from streaming_asr.core.events import EagerTurnEnd, Event, SpeechEnded, TurnResumed
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Recognizer
from streaming_asr.core.session import Session
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.recognizers.choose import factory_for
from streaming_asr.turns.detectors import make_turn_detector
from streaming_asr.voice.detectors import make_detector

DECODE_S, JUDGE_S = 0.1, 0.05
CHUNK = SAMPLE_RATE // 50
THRESHOLDS = (0.3, 0.5, 0.7)


@dataclass(slots=True)
class EagerEnds:
    """What became of the eager ends of some sessions."""

    taken_back: int = 0
    earlier_s: list[float] = field(default_factory=list)
    """From each of the others to the end of its utterance."""
    _sent: dict[int, float] = field(default_factory=dict)
    """When the last one of each utterance was sent, if it still holds."""

    def take(self, events: Sequence[Event], now: float) -> None:
        for event in events:
            if isinstance(event, EagerTurnEnd):
                self._sent[event.utterance] = now
            elif isinstance(event, TurnResumed):
                self.taken_back += 1
                del self._sent[event.utterance]
            elif isinstance(event, SpeechEnded) and event.utterance in self._sent:
                self.earlier_s.append(now - self._sent.pop(event.utterance))

    def end(self) -> None:
        """The recording is over: what holds still was neither taken back nor followed by an end."""
        self._sent.clear()


async def play(audio: Audio, options: SessionOptions, recognizer: Recognizer, found: EagerEnds) -> None:
    """Stream a recording to a session of its own."""
    session = Session("eager", options, recognizer.capabilities, make_detector, make_turn_detector=make_turn_detector)
    jobs = itertools.count(1)
    due: list[tuple[float, Callable[[float], list[Event]]]] = []
    for start in range(0, len(audio), CHUNK):
        now = (start + CHUNK) / SAMPLE_RATE
        found.take(session.receive(audio[start : start + CHUNK].tobytes(), now), now)
        for arrived in [entry for entry in due if entry[0] <= now]:
            due.remove(arrived)
            found.take(arrived[1](now), now)
        for question in session.take_questions():
            probability = question.answer()
            due.append((now + JUDGE_S, partial(session.judged, question, probability)))
        while (demand := session.demand()) is not None and (job := demand.take(next(jobs), now)) is not None:
            text = await recognizer.decode(job)
            due.append((now + DECODE_S, partial(session.complete, job.id, text)))
    session.abandon()
    found.end()


async def measure(given: argparse.Namespace, speech: Sequence[Clip], console: Console) -> None:
    """Play all recordings with each threshold, and print a row for it."""
    recognizer = factory_for(given.model).create(given)
    await recognizer.start()
    chosen: dict[str, Any] = {"endpointing": "turn", "partials": False, **dict(given.options)}
    table = Table(title=f"{recognizer.capabilities.model}: {len(speech)} recordings")
    for head in ("eager_threshold", "eager ends", "taken back", "before the end, p50", "p95"):
        table.add_column(head, justify="right")
    for threshold in THRESHOLDS:
        found = EagerEnds()
        for clip in speech:
            known = clip.language if clip.language in recognizer.capabilities.languages else None
            options = SessionOptions(encoding=Encoding.F32LE, language=known)
            await play(clip.audio(), options.changed(**chosen, eager_threshold=threshold), recognizer, found)
        spread = percentiles(found.earlier_s, 50, 95) or (0.0, 0.0)
        count = found.taken_back + len(found.earlier_s)
        table.add_row(f"{threshold:g}", str(count), str(found.taken_back), *(f"{1000 * s:.0f} ms" for s in spread))
    await recognizer.close()
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    limit_blas_threads()
    parser = parser_of("benchmarks.studies.eager_ends", __doc__, "conversation")
    given = parser.parse_args(argv)
    asyncio.run(measure(given, chosen_clips(parser, given), Console()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
