"""A session's readings as words that can be compared from one to the next."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.session_log import Shown

_ALONE = r"\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of scripts without spaces, each taken for a word."""
_WORDS = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}_])[\w'])+")


class Reading(NamedTuple):
    at_s: float
    words: tuple[str, ...]
    """All that was to be read from then on, final or not."""


def plain_words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation: a comma that comes later is no change of a word."""
    found = (word.strip("'") for word in _WORDS.findall(text.lower().replace("’", "'")))
    return tuple(word for word in found if word)


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
