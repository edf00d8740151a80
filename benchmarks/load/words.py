"""Transcripts as words that can be compared, after Whisper's normalizers."""

from __future__ import annotations

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th"})

_ENGLISH = EnglishTextNormalizer()
_OTHER = BasicTextNormalizer()
_CHARACTERS = BasicTextNormalizer(split_letters=True)


def comparable(text: str, language: str) -> list[str]:
    """The words of a text; in languages without spaces its characters.

    Args:
        language: ISO 639-1.
    """
    normal = _ENGLISH if language == "en" else _CHARACTERS if language in WITHOUT_SPACES else _OTHER
    words: list[str] = normal(text).split()
    return words
