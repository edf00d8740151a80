"""A session's readings as words that can be compared from one to the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.common.normalization import plain_words
from benchmarks.common.session_log import Shown


class Reading(NamedTuple):
    at_s: float
    words: tuple[str, ...]
    """All that was to be read from then on, final or not."""


def readings(shown: Iterable[Shown]) -> list[Reading]:
    """Those in which a word differs from the one before."""
    found: list[Reading] = []
    for each in shown:
        words = plain_words(each.final + each.partial)
        if words != (found[-1].words if found else ()):
            found.append(Reading(each.at_s, words))
    return found


def in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many words two readings begin with alike."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
