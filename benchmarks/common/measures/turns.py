"""How well utterances cover the turns of talk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
"""Start and end in seconds."""
_RESOLUTION_S = 0.001


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of one or more recordings."""

    missed_s: float = 0.0
    """Time within turns that lies in no utterance."""
    turns_s: float = 0.0
    """Time within turns, where several at once count once."""
    false_s: float = 0.0
    """Time outside all turns that lies in an utterance."""
    rest_s: float = 0.0
    """Time outside all turns."""
    utterances: int = 0

    @property
    def missed(self) -> float:
        """Share of the turns' time that lies in no utterance."""
        return self.missed_s / self.turns_s if self.turns_s else 0.0

    @property
    def false(self) -> float:
        """Share of the time outside the turns that lies in an utterance."""
        return self.false_s / self.rest_s if self.rest_s else 0.0


def coverage(length_s: float, turns: Iterable[Span], utterances: Sequence[Span]) -> Coverage:
    """Compare the utterances of one recording with the turns of its reference, to the millisecond."""
    said, found = _within(length_s, turns), _within(length_s, utterances)
    return Coverage(
        missed_s=float((said & ~found).sum()) * _RESOLUTION_S,
        turns_s=float(said.sum()) * _RESOLUTION_S,
        false_s=float((found & ~said).sum()) * _RESOLUTION_S,
        rest_s=float((~said).sum()) * _RESOLUTION_S,
        utterances=len(utterances),
    )


def together(parts: Sequence[Coverage]) -> Coverage:
    """That of several recordings."""
    return Coverage(
        missed_s=sum(part.missed_s for part in parts),
        turns_s=sum(part.turns_s for part in parts),
        false_s=sum(part.false_s for part in parts),
        rest_s=sum(part.rest_s for part in parts),
        utterances=sum(part.utterances for part in parts),
    )


def _within(length_s: float, spans: Iterable[Span]) -> NDArray[np.bool_]:
    inside = np.zeros(round(length_s / _RESOLUTION_S), bool)
    for start, end in spans:
        inside[round(start / _RESOLUTION_S) : round(end / _RESOLUTION_S)] = True
    return inside
