"""The turn detectors of this project by themselves: how sure they are at each silence, without a session around them.

Each detector gives two systems: what it says alone, and what it says together with how the recognizer's text of the
turn so far stops, as `streaming_asr/core/turn_policy.py` puts the two together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.accuracy.in_process import InProcess
from benchmarks.accuracy.sources import NoTranscript
from benchmarks.accuracy.working import work_through
from benchmarks.common.speech import NoSpeech
from benchmarks.turns.rows import Row, Silence
from benchmarks.turns.sweep import Scored
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.phrase import phrase_of
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.turn import Pause, TurnDetector
from streaming_asr.core.turn_policy import Evidence, judge

_KEPT_S = 0.2
"""Silence behind the speech that the recognizer gets, as in a session."""
_EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Judged:
    """One silence, its text, and both scores of it."""

    silence: Silence
    text: str
    alone: tuple[tuple[float, float], ...]
    blended: tuple[tuple[float, float], ...]


@dataclass(slots=True)
class Judgements:
    """What one detector said of each row. Fills while it runs."""

    name: str
    by_row: dict[str, list[Judged]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Rows that failed, and why."""

    def systems(self) -> list[tuple[str, list[Scored]]]:
        """The detector alone, and with the text."""
        judged = [one for of_row in self.by_row.values() for one in of_row]
        return [
            (f"{self.name} alone", [Scored(one.silence, one.alone) for one in judged]),
            (f"{self.name} and text", [Scored(one.silence, one.blended) for one in judged]),
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "left_out": self.left_out,
            "rows": {
                name: [
                    {
                        "start": one.silence.start_s,
                        "end": one.silence.end_s,
                        "is_end": one.silence.is_end,
                        "text": one.text,
                        "alone": one.alone,
                        "blended": one.blended,
                    }
                    for one in of_row
                ]
                for name, of_row in self.by_row.items()
            },
        }


async def ask(detector: TurnDetector, recognizer: InProcess, rows: Sequence[Row], judgements: Judgements) -> None:
    """Have every silence judged, at each length at which the detector wants to be asked."""
    options = SessionOptions()

    async def work(row: Row) -> None:
        language = row.language if row.language in recognizer.languages else None
        try:
            audio = row.audio()
            texts = [await recognizer.offline(_until(audio, one.start_s + _KEPT_S), language) for one in row.silences]
        except (NoTranscript, NoSpeech) as error:
            judgements.left_out.append(f"{row.id}: {error}")
            return
        judgements.by_row[row.id] = [
            await asyncio.to_thread(_judged, detector, audio, silence, text, row.language, options)
            for silence, text in zip(row.silences, texts, strict=True)
        ]

    await work_through(rows, recognizer.at_once, work, title=judgements.name)


def _judged(
    detector: TurnDetector, audio: Audio, silence: Silence, text: str, language: str, options: SessionOptions
) -> Judged:
    alone, blended = [], []
    for at_ms in detector.asks_at_ms:
        at_s = at_ms / 1000
        if at_s > silence.length_s + _EPSILON_S:
            break
        heard = _until(audio, silence.start_s + at_s)
        probability = detector.probability(Pause(heard, at_ms, text, language))
        alone.append((at_s, probability))
        blended.append((at_s, judge(Evidence(probability, phrase_of(text, language)), options).probability))
    return Judged(silence, text, tuple(alone), tuple(blended))


def _until(audio: Audio, end_s: float) -> Audio:
    return audio[: round(end_s * SAMPLE_RATE)]
