"""Words of a text, each with its time: the recognizer's where it has them, else spread over the speech."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from streaming_asr.core.recognizer import Word

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of scripts without spaces: Thai, Lao, Burmese, kana, Han."""
_UNITS = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")
_EDGES = re.compile(r"(?<!\w)[^\w\s]+|[^\w\s]+(?!\w)|[\u3000-\u303f\uff00-\uff0f\uff1a-\uff20]+")
"""Punctuation that is not inside a word; that of scripts without spaces never is."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """Times in ms of the stream."""

    text: str
    """With its punctuation."""
    start_ms: int
    end_ms: int
    confidence: float | None


def timed_words(text: str, start_ms: int, end_ms: int, known: Sequence[Word] | None = None) -> list[TimedWord]:
    """The words of `text`.

    Args:
        start_ms, end_ms: of the speech; no word is outside of it. Without `known` words it is shared out among the
            words by their letters.
        known: the recognizer's words, in stream time.
    """

    def within(time_ms: int) -> int:
        return max(start_ms, min(end_ms, time_ms))

    if known:
        return [TimedWord(word.text, within(word.start_ms), within(word.end_ms), word.probability) for word in known]
    units = _units(text)
    letters = sum(map(len, units))
    words, said, began = [], 0, start_ms
    for unit in units:
        said += len(unit)
        ended = start_ms + (end_ms - start_ms) * said // letters
        words.append(TimedWord(unit, began, ended, None))
        began = ended
    return words


def plain(text: str) -> str:
    """The text in lower case and without punctuation, but for that inside words (don't, 3.5)."""
    return " ".join(_EDGES.sub(" ", text).lower().split())


def _units(text: str) -> list[str]:
    """What is told as one word each: what stands between spaces, or a character of a script without them."""
    units: list[str] = []
    pending = ""
    for unit in _UNITS.findall(text):
        if not plain(unit):
            if units and not pending:
                units[-1] += unit
            else:
                pending += unit
        else:
            units.append(pending + unit)
            pending = ""
    return units
