"""Word errors: counted, pooled over clips, and how sure one can be of their rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

_RESAMPLES = 2000
_SEED = 0
"""The same clips give the same interval."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Of one clip or of several together. Units are words, or characters where the language has none."""

    reference: int = 0
    """Units that were said."""
    substituted: int = 0
    deleted: int = 0
    inserted: int = 0

    @property
    def total(self) -> int:
        return self.substituted + self.deleted + self.inserted

    @property
    def rate(self) -> float:
        """WER or CER; 0 where nothing was said."""
        return self.total / self.reference if self.reference else 0.0

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.reference + other.reference,
            self.substituted + other.substituted,
            self.deleted + other.deleted,
            self.inserted + other.inserted,
        )


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Errors:
    """The fewest changes that make the reference into the hypothesis."""
    if not reference:
        return Errors(inserted=len(hypothesis))
    found = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return Errors(len(reference), found.substitutions, found.deletions, found.insertions)


def pooled(clips: Sequence[Errors]) -> Errors:
    return sum(clips, Errors())


def interval(clips: Sequence[Errors]) -> tuple[float, float] | None:
    """95 % of the pooled rate, by bootstrap over clips (Bisani & Ney 2004); None for fewer than two clips."""
    return difference_interval(clips, [Errors(one.reference) for one in clips])


def difference_interval(clips: Sequence[Errors], others: Sequence[Errors]) -> tuple[float, float] | None:
    """95 % of the difference of the rates of two ways to transcribe the same clips, in the same order."""
    if len(clips) < 2:
        return None
    said = np.array([one.reference for one in clips], np.float64)
    more = np.array([one.total - other.total for one, other in zip(clips, others, strict=True)], np.float64)
    drawn = np.random.default_rng(_SEED).integers(len(clips), size=(_RESAMPLES, len(clips)))
    rates = more[drawn].sum(axis=1) / np.maximum(1, said[drawn].sum(axis=1))
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)
