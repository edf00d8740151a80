"""How much of what was shown was taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.common.measures.readings import Reading, in_common


@dataclass(frozen=True, slots=True)
class Stability:
    """Of one session, or pooled over several."""

    words: int = 0
    """Of the last readings."""
    erased: int = 0
    """Words deleted over all revisions, where a revision deletes all from the first word that differs."""
    unstable: int = 0
    """Words that the next reading had another word for, or none, in the same place."""

    @property
    def erasure(self) -> float | None:
        """Normalized erasure: deleted for each word of the last text (Arivazhagan et al. 2020, arXiv:2004.03643)."""
        return self.erased / self.words if self.words else None

    @property
    def upwr(self) -> float | None:
        """Unstable partial words for each word of the last text (Shangguan et al. 2020, arXiv:2006.01416)."""
        return self.unstable / self.words if self.words else None


def stability(readings: Sequence[Reading]) -> Stability:
    """Of one session."""
    erased = unstable = 0
    for before, after in pairwise(readings):
        alike = in_common(before.words, after.words)
        erased += len(before.words) - alike
        same = sum(old == new for old, new in zip(before.words[alike:], after.words[alike:], strict=False))
        unstable += len(before.words) - alike - same
    return Stability(len(readings[-1].words) if readings else 0, erased, unstable)


def pooled(sessions: Iterable[Stability]) -> Stability:
    """Of all words of several sessions."""
    words = erased = unstable = 0
    for each in sessions:
        words += each.words
        erased += each.erased
        unstable += each.unstable
    return Stability(words, erased, unstable)
