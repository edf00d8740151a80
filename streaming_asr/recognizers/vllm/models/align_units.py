"""A text cut into the units that Qwen's forced aligner was trained on, and these put together to words again.

The rules of each language are those of Qwen's package `qwen-asr` and of Transformers, which the model knows: letters,
figures and apostrophes only; a unit is what stands between spaces, and each ideograph is one. Japanese needs a
dictionary (nagisa's). Korean words are cut after two syllables, as Transformers does; Qwen's own package looks the
first part up in a dictionary, and mostly comes to the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streaming_asr.core.scripts import split

KOREAN_STEM = 2
"""Syllables of a Korean word that are a unit, if it has more."""
_IDEOGRAPHS = (
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xF900, 0xFB00),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2CEB0),
    range(0x2F800, 0x2FA20),
)
"""Those that are units of their own: CJK, its extensions A to E, and the compatibility blocks."""

Morphemes = Callable[[str], Sequence[str]]
"""Cuts a Japanese text into its words."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What gets a start and an end."""

    text: str
    """Letters, figures and apostrophes only."""
    start: int
    end: int
    """Its place in the whole text, in characters."""


def split_units(text: str, language: str, morphemes: Morphemes | None = None) -> list[Unit]:
    """The units of a text.

    Args:
        language: ISO 639-1 code.
        morphemes: needed for Japanese.

    Raises:
        ValueError: the morphemes are not those of the text.
    """
    if language == "ja" and morphemes is not None:
        return _find(morphemes(text), text)
    units: list[Unit] = []
    for start, end in _spaced(text):
        if language == "ko" and end - start > KOREAN_STEM:
            stem = start + KOREAN_STEM
            parts = [(start, stem), (stem, end)]
        else:
            parts = [(start, end)]
        for first, last in parts:
            units += _split_ideographs(text, first, last)
    return units


def group_words(text: str, units: Sequence[Unit]) -> list[tuple[str, int, int]]:
    """The words of a text, each with its punctuation, and the units that it consists of.

    A word is the least that neither cuts a unit nor a piece of the text (see `scripts.split`).

    Returns:
        Text without surrounding space, first unit, and last unit + 1 of each word; together these are all units.
    """
    words: list[tuple[str, int, int]] = []
    first = 0
    begin = end = 0
    for piece in split(text):
        end += len(piece)
        last = first
        while last < len(units) and units[last].start < end:
            last += 1
        if last == first or units[last - 1].end > end:
            # Nothing to be spoken is in it, or a unit goes on in the next piece.
            continue
        words.append((text[begin:end].strip(), first, last))
        first, begin = last, end
    if words and end > begin:
        word, first, last = words[-1]
        words[-1] = (text[text.rindex(word, 0, begin) :].strip(), first, last)
    return words


def _spaced(text: str) -> list[tuple[int, int]]:
    """Places of what stands between white space."""
    places: list[tuple[int, int]] = []
    start = 0
    for part in text.split():
        start = text.index(part, start)
        places.append((start, start + len(part)))
        start += len(part)
    return places


def _split_ideographs(text: str, start: int, end: int) -> list[Unit]:
    """The units of a part of the text that has no white space."""
    units: list[Unit] = []
    letters: list[int] = []

    def flush() -> None:
        if letters:
            units.append(Unit("".join(text[n] for n in letters), letters[0], letters[-1] + 1))
            letters.clear()

    for n in range(start, end):
        if any(ord(text[n]) in block for block in _IDEOGRAPHS):
            flush()
            units.append(Unit(text[n], n, n + 1))
        elif _is_spoken(text[n]):
            letters.append(n)
    flush()
    return units


def _is_spoken(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LN"


def _find(words: Sequence[str], text: str) -> list[Unit]:
    """Find words in the text that they were made of, whose characters may have been replaced by compatible ones."""
    units: list[Unit] = []
    place = 0
    for word in words:
        spoken = "".join(filter(_is_spoken, word))
        if not spoken:
            continue
        rest = spoken
        start = end = place
        while rest:
            if place == len(text):
                raise ValueError(f"{word!r} is not in the text")
            character = "".join(filter(_is_spoken, unicodedata.normalize("NFKC", text[place])))
            if not rest.startswith(character):
                raise ValueError(f"{word!r} is not where it should be in the text")
            place += 1
            if character:
                if rest == spoken:
                    start = place - 1
                end = place
                rest = rest[len(character) :]
        units.append(Unit(spoken, start, end))
    return units
