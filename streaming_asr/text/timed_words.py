"""Words of a text, each with its time: the recognizer's where it has them, else spread over the speech."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from streaming_asr.core import estimated_words
from streaming_asr.core.recognizer import Word
from streaming_asr.core.scripts import MARKS

_MARK = rf"[^\w\s{MARKS}]"
_EDGES = re.compile(
    rf"(?<![\w{MARKS}]){_MARK}+|{_MARK}+(?![\w{MARKS}])|[\u3000-\u3004\u3008-\u3020\u3030\uff00-\uff0f\uff1a-\uff20\uff3b-\uff3e\uff5b-\uff65]+"
)
"""Punctuation that is not inside a word; East Asian punctuation never is."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """Times in ms of the stream."""

    text: str
    """With its punctuation."""
    start_ms: int
    end_ms: int
    confidence: float | None
    speaker: int | None = None


def timed_words(
    text: str, start_ms: int, end_ms: int, known: Sequence[Word] | None = None, speaker: int | None = None
) -> list[TimedWord]:
    """The words of `text`, without white space.

    Args:
        start_ms, end_ms: of the speech; no word is outside of it. Without `known` words each gets a part of it in
            proportion to its width.
        known: the recognizer's words, in stream time.
        speaker: of words that have none of their own.
    """

    def within(time_ms: int) -> int:
        return max(start_ms, min(end_ms, time_ms))

    return [
        TimedWord(
            "".join(word.text.split()),
            within(word.start_ms),
            within(word.end_ms),
            word.probability,
            speaker if word.speaker is None else word.speaker,
        )
        for word in known or estimated_words.estimate_words(text, start_ms, end_ms)
    ]


def time_pieces(text: str, start_ms: int, end_ms: int) -> list[TimedWord]:
    """See `estimated_words.time_pieces`."""
    pieces = estimated_words.time_pieces(text, start_ms, end_ms)
    return [TimedWord(piece.text, piece.start_ms, piece.end_ms, None) for piece in pieces]


def plain(text: str) -> str:
    """The text in lower case and without punctuation, but for that inside words (don't, 3.5)."""
    return " ".join(_EDGES.sub(" ", text).lower().split())
