"""What was said beside what was recognized, word under word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import jiwer

CONTEXT_UNITS = 4
"""Right words that are shown before and after wrong ones."""


@dataclass(frozen=True, slots=True)
class Column:
    """Units that stand under one another; empty where a row has none."""

    said: str
    recognized: tuple[str, ...]
    """One for each way of transcribing."""

    @property
    def right(self) -> bool:
        """Whether every way of transcribing has what was said."""
        return all(word == self.said for word in self.recognized)


def columns_of(said: Sequence[str], *ways: Sequence[str]) -> list[Column]:
    """Align each way of transcribing with what was said; what two ways inserted at one place shares columns."""
    at: list[list[str]] = []
    """By way: what stands under each unit that was said."""
    before: list[list[list[str]]] = []
    """By way: what was inserted before each unit, and after the last."""
    for recognized in ways:
        under, inserted = _aligned(said, recognized)
        at.append(under)
        before.append(inserted)
    columns: list[Column] = []
    for place in range(len(said) + 1):
        columns += [Column("", words) for words in zip_longest(*(way[place] for way in before), fillvalue="")]
        if place < len(said):
            columns.append(Column(said[place], tuple(way[place] for way in at)))
    return columns


def excerpts(columns: Sequence[Column], around: int = CONTEXT_UNITS) -> Iterator[list[Column]]:
    """The parts with errors, each with some right words around."""
    shown = [False] * len(columns)
    for place, column in enumerate(columns):
        if not column.right:
            first, last = max(0, place - around), min(len(columns), place + around + 1)
            shown[first:last] = [True] * (last - first)
    part: list[Column] = []
    for column, wanted in zip(columns, shown, strict=True):
        if wanted:
            part.append(column)
        elif part:
            yield part
            part = []
    if part:
        yield part


def _aligned(said: Sequence[str], recognized: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    under = [""] * len(said)
    inserted: list[list[str]] = [[] for _ in range(len(said) + 1)]
    if not said:
        return under, [list(recognized)]
    for chunk in jiwer.process_words(" ".join(said), " ".join(recognized)).alignments[0]:
        units = recognized[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "insert":
            inserted[chunk.ref_start_idx] += units
        elif chunk.type != "delete":
            under[chunk.ref_start_idx : chunk.ref_end_idx] = units
    return under, inserted
