"""What was said beside what was read, with the words that differ marked."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from rapidfuzz.distance import Levenshtein

from benchmarks.common.normalization import units


@dataclass(frozen=True, slots=True)
class Compared:
    clip: str
    errors: int
    words: int
    said: str
    """HTML: what differs is in `<del>`."""
    read: str
    """HTML: what differs is in `<ins>`."""


def compared(session: dict[str, Any]) -> Compared:
    """One session of a run's JSON."""
    said = units(session["reference"], session["language"])
    read = units(session["final"] + session["partial"], session["language"])
    left: list[str] = []
    right: list[str] = []
    for step in Levenshtein.opcodes(said, read):
        one, other = (
            escape(" ".join(words))
            for words in (said[step.src_start : step.src_end], read[step.dest_start : step.dest_end])
        )
        alike = step.tag == "equal"
        left += [one if alike else f"<del>{one}</del>"] if one else []
        right += [other if alike else f"<ins>{other}</ins>"] if other else []
    return Compared(
        escape(session["clip"]), Levenshtein.distance(said, read), len(said), " ".join(left), " ".join(right)
    )
