"""What the sessions of a run show: the one place where logs become figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.load.speaking import Take
from benchmarks.session_log import Outcome

_QUIET = 0.02
"""Of the loudest sample: a clip's speech ends with the last sample above."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity."""

    name: str
    values: tuple[float, ...]
    """Seconds."""

    def percentile(self, percent: float) -> float | None:
        return float(np.percentile(self.values, percent)) if self.values else None


def figures(takes: Iterable[Take]) -> list[Figure]:
    """Of the sessions that are done."""
    done = [take for take in takes if take.log.outcome is Outcome.DONE]
    first = [take.log.shown[0].at_s for take in done if take.log.shown]
    finals = [last - _speech_end(take) for take in done if (last := _last_final(take)) is not None]
    return [Figure("first text", tuple(first)), Figure("time to final", tuple(finals))]


def _last_final(take: Take) -> float | None:
    before, at_s = "", None
    for shown in take.log.shown:
        if shown.final != before:
            before, at_s = shown.final, shown.at_s
    return at_s


def _speech_end(take: Take) -> float:
    clip = take.utterance.clip
    if clip.words:
        return clip.words[-1][2]
    pcm = np.frombuffer(b"".join(chunk.pcm for chunk in take.utterance.speech), "<i2")
    loud = np.flatnonzero(np.abs(pcm.astype(float)) > _QUIET * np.abs(pcm.astype(float)).max())
    return float(take.utterance.speech_s * (loud[-1] + 1) / len(pcm))
