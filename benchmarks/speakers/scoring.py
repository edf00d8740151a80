"""How many of the labels of a recording are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Turn = tuple[str, float, float]
"""Speaker, start and end in seconds."""
Label = tuple[int, float, float]
"""As a turn, with the label found."""
_PER_S = 100
"""Moments of a second that are compared."""
SHORTEST_S = 1.0
"""A speaker of the reference counts from this much labelled speech on."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one recording, or of several together."""

    wrong_s: float
    """Speech with the label of another speaker, under the best assignment of labels to speakers."""
    labelled_s: float
    """Speech of one speaker alone, that has a label."""
    one_label_s: float
    """What would be wrong if all had the same label."""
    counts_right: int
    """Recordings with as many labels as speakers."""
    recordings: int = 1

    @property
    def wrong(self) -> float:
        return self.wrong_s / self.labelled_s if self.labelled_s else 0.0

    @property
    def one_label(self) -> float:
        return self.one_label_s / self.labelled_s if self.labelled_s else 0.0

    @property
    def count_right(self) -> float:
        return self.counts_right / self.recordings


def score(turns: Sequence[Turn], labels: Sequence[Label], length_s: float) -> Score:
    """Compare labels with the turns of the reference, where one speaker speaks alone."""
    names = sorted({name for name, _, _ in turns})
    found = sorted({label for label, _, _ in labels})
    speaking = [_moments(length_s, (turn[1:] for turn in turns if turn[0] == name)) for name in names]
    alone = np.sum(speaking, axis=0) == 1
    labelled = [_moments(length_s, (label[1:] for label in labels if label[0] == one)) & alone for one in found]
    times = np.array([[float((spoken & label).sum()) / _PER_S for label in labelled] for spoken in speaking])
    times = times.reshape(len(names), len(found))
    total = float(times.sum())
    present = int((times.sum(axis=1) >= SHORTEST_S).sum())
    shown = int((times.sum(axis=0) > 0).sum())
    most = float(times.sum(axis=1).max()) if times.size else 0.0
    return Score(total - best_match(times), total, total - most, int(shown == present))


def together(scores: Iterable[Score]) -> Score:
    parts = list(scores)
    return Score(
        sum(part.wrong_s for part in parts),
        sum(part.labelled_s for part in parts),
        sum(part.one_label_s for part in parts),
        sum(part.counts_right for part in parts),
        len(parts),
    )


def best_match(times: NDArray[np.float64]) -> float:
    """The largest sum of elements of which no two share a row or a column; for few rows."""
    best = {0: 0.0}
    for column in times.T:
        after = dict(best)
        for taken, total in best.items():
            for row, time in enumerate(column.tolist()):
                if not taken >> row & 1:
                    after[taken | 1 << row] = max(after.get(taken | 1 << row, 0.0), total + time)
        best = after
    return max(best.values())


def _moments(length_s: float, spans: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    moments = np.zeros(round(length_s * _PER_S), np.bool_)
    for start, end in spans:
        moments[round(start * _PER_S) : round(end * _PER_S)] = True
    return moments
