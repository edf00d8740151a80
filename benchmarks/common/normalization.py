"""What counts as the same word: texts -> the units that are compared, words or, in some languages, characters."""

from __future__ import annotations

import functools
import unicodedata

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from streaming_asr.core.scripts import find_words

BY_CHARACTER = frozenset({"zh", "ja", "yue"})
"""Languages without spaces, whose errors are counted by character."""


def measure_of(language: str) -> str:
    """`WER` or `CER`, whichever is usual for a language."""
    return "CER" if language in BY_CHARACTER else "WER"


def units(text: str, language: str) -> list[str]:
    """What is compared: words after Whisper's English or basic normalization, characters for those of `BY_CHARACTER`.

    Args:
        language: ISO 639-1.
    """
    if language == "en":
        normal = _english()(text)
    elif language in BY_CHARACTER:
        # Half-width and full-width forms of a digit are the same digit.
        normal = _characters()(unicodedata.normalize("NFKC", text))
    else:
        normal = _basic()(text)
    # The English normalizer leaves a point of "so that..." behind, which is not a word.
    return [unit for unit in normal.split() if any(map(str.isalnum, unit))]


def plain_words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation, nothing else made equal: "mr" is not "mister", "2" not "two". A character
    of a script without spaces is a word."""
    return tuple(word.group() for word in find_words(text.lower().replace("’", "'")))


@functools.cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


@functools.cache
def _basic() -> BasicTextNormalizer:
    return BasicTextNormalizer()


@functools.cache
def _characters() -> BasicTextNormalizer:
    return BasicTextNormalizer(split_letters=True)
