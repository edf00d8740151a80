"""Whether a text stops at the end of a sentence or in mid-phrase, as far as its last word and punctuation show."""

from __future__ import annotations

import enum

from streaming_asr.core import scripts

_CLOSERS = "\"'”’»)]）」』】〉》"
"""Closing quotes and brackets, which may follow the punctuation."""
_OPEN_DASHES = "-–—"


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


OPEN_WORDS: dict[str, frozenset[str]] = {
    "en": _words(
        "a an the and or but because if so that which who when while than as of to in on at by for from with into "
        "about my your his her its our their is are was were be am i'm um uh"
    ),
    "de": _words(
        "der die das den dem des ein eine einen einem einer und oder aber weil wenn dass ob als wie zu in im an am auf "
        "mit von vom für bei nach aus mein meine dein deine sein seine ihr ihre ist sind war äh ähm"
    ),
    "fr": _words(
        "le la les un une des du de et ou mais parce que qui si quand à au aux en dans sur avec pour par mon ma mes "
        "ton ta tes son sa ses notre votre leur est sont euh"
    ),
    "es": _words(
        "el la los las un una unos unas de del y o pero porque que si cuando a al en con por para sobre mi mis tu tus "
        "su sus es son está eh"
    ),
}
"""Words that end no sentence, or seldom: articles, conjunctions, prepositions, possessives, hesitation. By language."""


class Phrase(enum.Enum):
    """How a text stops."""

    SENTENCE = "sentence"
    """With sentence-final punctuation."""
    OPEN = "open"
    """In mid-phrase: with a comma, a dash, an ellipsis, or a word that asks for more."""
    UNKNOWN = "unknown"


def phrase_of(text: str, language: str | None) -> Phrase:
    """How a text stops.

    Args:
        language: ISO 639-1 code; None where it is not known, and then words say nothing.
    """
    end = text.rstrip().rstrip(_CLOSERS).rstrip()
    if not end:
        return Phrase.UNKNOWN
    last = end[-1]
    if last in scripts.CLAUSE_ENDS or last in _OPEN_DASHES or end.endswith(("...", "…")):
        return Phrase.OPEN
    words = scripts.find_words(end[-40:])
    if words and words[-1].group().lower().replace("’", "'") in OPEN_WORDS.get(language or "", ()):
        # Recognizers end any audio with a full stop, but a question may well end with a preposition.
        return Phrase.UNKNOWN if last in "?!" else Phrase.OPEN
    return Phrase.SENTENCE if last in scripts.SENTENCE_ENDS else Phrase.UNKNOWN
