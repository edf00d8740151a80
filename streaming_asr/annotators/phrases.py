"""Words and phrases that are replaced: `replace=from:to`, and `profanity_filter=true`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from streaming_asr.annotators.edits import Edit, TextAnnotator, without_overlap
from streaming_asr.annotators.profanities import PROFANITIES
from streaming_asr.core.options import SessionOptions, parse_replacement
from streaming_asr.core.recognizer import Capabilities
from streaming_asr.core.scripts import find_words

_GAP = re.compile(r"[\s\-]+")


class Phrases:
    """Finds phrases as whole words, in capitals or not, with white space or hyphens between their words.

    Args:
        phrases: each has a letter or a digit.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = {_plain(phrase): index for index, phrase in enumerate(phrases)}
        self._longest = max(map(len, self._phrases), default=0)
        # The longest first: an alternation takes the first that fits.
        alternatives = "|".join(_pattern(phrase) for phrase in sorted(self._phrases, key=len, reverse=True))
        self._pattern = re.compile(alternatives, re.IGNORECASE)

    def edits(self, text: str, replacement: Callable[[int, str], str]) -> list[Edit]:
        """Edits of all phrases in a text.

        Args:
            replacement: makes the new text, of the phrase's index and the text found.
        """
        found = self._pattern.finditer(text) if self._phrases else ()
        return without_overlap(
            Edit(*match.span(), replacement(self._index(match.group()), match.group())) for match in found
        )

    def _index(self, found: str) -> int:
        """Of the phrase that was found."""
        if (index := self._phrases.get(_plain(found))) is not None:
            return index
        # Regular expressions take a few letters for the same that `lower` tells apart: ı and i, ſ and s.
        longest_first = sorted(self._phrases, key=len, reverse=True)
        return next(
            self._phrases[phrase] for phrase in longest_first if re.fullmatch(_pattern(phrase), found, re.IGNORECASE)
        )

    def open_from(self, text: str) -> int:
        """Where a phrase begins that more text could complete or continue; the text's length if none does."""
        # Gaps of several characters count as one in a phrase, so a little more of the text is looked at.
        first = max(0, len(text) - 2 * self._longest)
        for word in find_words(text[first:]):
            start = first + word.start()
            rest = _plain(text[start:])
            if any(phrase.startswith(rest) for phrase in self._phrases):
                return start
        return len(text)


def _plain(phrase: str) -> str:
    return _GAP.sub(" ", phrase.lower()).strip()


def _pattern(phrase: str) -> str:
    """A phrase as a regular expression. Beside a letter of a script without spaces, any character may stand."""
    words = find_words(phrase)
    inner = _GAP.sub(lambda gap: r"[\s\-]+", re.sub(r"([^\w\s\-])", r"\\\1", phrase))
    spaced = [len(word.group()) > 1 or word.group().isascii() for word in (words[0], words[-1])]
    before = r"(?<!\w)" if spaced[0] else ""
    after = r"(?!\w)" if spaced[1] else ""
    return f"{before}{inner}{after}"


class Replace(TextAnnotator):
    """Replaces phrases, as the client asks."""

    name = "replacement of words"
    options = ("replace",)

    def __init__(self, replacements: Sequence[tuple[str, str]]) -> None:
        self._new = [new for _, new in replacements]
        self._phrases = Phrases([old for old, _ in replacements])

    def edits(self, text: str, language: str | None) -> list[Edit]:
        return self._phrases.edits(text, lambda index, found: self._new[index])

    def open_from(self, text: str, language: str | None) -> int:
        return self._phrases.open_from(text)


class ProfanityFilter(TextAnnotator):
    """Writes an asterisk for each character of a profane word, in English."""

    name = "profanity filter"
    options = ("profanity_filter",)
    guards = True
    _phrases = Phrases(PROFANITIES)

    def edits(self, text: str, language: str | None) -> list[Edit]:
        return self._phrases.edits(text, lambda index, found: re.sub(r"[^\s\-]", "*", found))

    def open_from(self, text: str, language: str | None) -> int:
        return self._phrases.open_from(text)


def replace(options: SessionOptions, capabilities: Capabilities) -> Replace | None:
    """The factory."""
    return Replace([parse_replacement(one) for one in options.replace]) if options.replace else None


def profanity_filter(options: SessionOptions, capabilities: Capabilities) -> ProfanityFilter | None:
    """The factory."""
    return ProfanityFilter() if options.profanity_filter else None
