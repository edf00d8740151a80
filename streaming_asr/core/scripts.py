"""What is known of writing systems: where words and texts have spaces between them, and how wide characters are.

Finding the words of a script without spaces takes a dictionary. Here each of its characters stands for a word, with
the vowel signs, tone marks and punctuation that belong to it: enough to share out time, to cut subtitles and to
compare texts. docs/extending/language.md says how to add a script.

The clients have the parts that subtitles need in `clients/scripts.py` and `clients/browser/scripts.js`. All three pass
the cases of `tests/vectors/scripts.json`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

EAST_ASIAN = {
    "Han": "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff",
    "Hiragana and Katakana": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Bopomofo": "\u3105-\u312f\u31a0-\u31bf",
}
"""Scripts without any spaces, as ranges of characters. Korean is not among them: Hangul has spaces between words."""
SOUTHEAST_ASIAN = {
    "Thai": "\u0e01-\u0e5b",
    "Lao": "\u0e81-\u0edf",
    "Myanmar": "\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f",
    "Khmer": "\u1780-\u17e9",
}
"""Scripts without spaces between words that have them between phrases and sentences."""

SENTENCE_ENDS = ".?!…。？！．｡؟۔।॥។៕။"
CLAUSE_ENDS = ",;:，；：､、،؛၊"
CLOSING = SENTENCE_ENDS + CLAUSE_ENDS
"""Punctuation that may follow a word without a space."""

_WIDE_PUNCTUATION = "\u3000-\u303f\uff01-\uff65\uffe0-\uffe6"
"""East Asian punctuation and full-width forms, which bring their own white space."""
_OPENING = "(\\[{“‘「『（［｛《〈【〔〖〘〚｢"
"""Punctuation that belongs to what follows it."""
_OPENING_ALONE = frozenset("([{“‘「『（［｛《〈【〔〖〘〚｢«¿¡„‚")
"""The same where there is white space on both sides; in French « has it."""
_LEADING_VOWELS = "\u0e40-\u0e44\u0ec0-\u0ec4"
"""Thai and Lao vowels that are written before the consonant they are spoken after."""
_TRAILING = (
    "\u0e2f\u0e30\u0e32\u0e33\u0e45\u0e46\u0eaf\u0eb0\u0eb2\u0eb3\u0ec6\u17d7"
    "\u3005\u3031-\u3035\u303b\u309d\u309e\u30fc-\u30fe\uff70\uff9e\uff9f\u02c7\u02ca\u02cb\u02d9"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ\uff67-\uff6f\u31f0-\u31ff"
)
"""Letters that belong to the one before: Thai and Lao vowels, marks of repetition, length and tone, small kana."""
_STACKING = "\u17d2\u1039"
"""Khmer's and Myanmar's signs that put the next consonant under the one before."""
_WIDE = (
    "\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60"
    "\uffe0-\uffe6\U0001f300-\U0001f64f\U0001f900-\U0001f9ff\U00020000-\U0003ffff"
)
"""Characters that fill two columns."""

_MARKED = (range(0x300, 0x3100), range(0xA600, 0xAC00), range(0xFB00, 0xFE30))
"""Where Unicode's basic plane has combining marks."""
MARKS = "\u200c\u200d" + "".join(
    chr(code) for codes in _MARKED for code in codes if unicodedata.category(chr(code)).startswith("M")
)
"""Combining marks, which `\\w` leaves out although they are parts of words; for use in a class of characters."""

_EAST = "".join(EAST_ASIAN.values())
_LETTER = rf"(?=[^\W\d_])[{_EAST}{''.join(SOUTHEAST_ASIAN.values())}]"
"""A letter of a script without spaces."""
_SPACED = rf"(?:(?!{_LETTER})[\w{MARKS}])+"
_WORD = re.compile(
    rf"[{_LEADING_VOWELS}]*{_LETTER}(?:[{_STACKING}]{_LETTER}|[{_TRAILING}{MARKS}])*|{_SPACED}(?:['’]{_SPACED})*"
)
_PIECE = re.compile(
    rf"\s*(?:[{_OPENING}]*[{_LEADING_VOWELS}]*{_LETTER}(?:[{_STACKING}]{_LETTER}|[{_TRAILING}]|[^\w\s{_OPENING}])*"
    rf"|(?:(?![{_OPENING}]{{0,3}}{_LETTER})\S)+)"
)
_CLOSE = re.compile(f"[{_EAST}{_WIDE_PUNCTUATION}]")
_WIDE_CHARACTER = re.compile(f"[{_WIDE}]")


def with_space(left: str, right: str) -> str:
    """`right` as it must follow `left`: with a space before it, unless one of them has East Asian text there."""
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return right
    if _CLOSE.match(left[-1]) or _CLOSE.match(right[0]):
        return right
    # Quotation marks and dots are shared with other scripts: what is inside of them counts.
    inner = [next(filter(str.isalnum, text), "") for text in (reversed(left), right)]
    return right if all(map(_CLOSE.match, inner)) else " " + right


def joined(texts: Iterable[str]) -> str:
    """One text made of several that follow one another."""
    whole = ""
    for text in texts:
        whole += with_space(whole, text)
    return whole


def find_words(text: str) -> list[re.Match[str]]:
    """The words of a text without white space and punctuation, where they stand in it."""
    return list(_WORD.finditer(text))


def lower_words(text: str) -> list[str]:
    """Lower-case words without punctuation; a character each in scripts without spaces."""
    return [word.group() for word in find_words(text.lower())]


def split(text: str) -> list[str]:
    """A text cut between words. The pieces keep white space and punctuation: joined they are the text.

    Each piece has a letter or a digit, unless the whole text has none. White space comes first in a piece; only the
    last may end in it.
    """
    pieces: list[str] = []
    before = ""
    end = 0
    for found in _PIECE.finditer(text):
        end = found.end()
        piece = found.group()
        if any(map(str.isalnum, piece)):
            pieces.append(before + piece)
            before = ""
        elif pieces and not before and not _OPENING_ALONE.issuperset(piece.strip()):
            pieces[-1] += piece
        else:
            before += piece
    rest = before + text[end:]
    if pieces:
        pieces[-1] += rest
    elif rest.strip():
        pieces.append(rest)
    return pieces


def width(text: str) -> int:
    """Columns that a text fills: an East Asian character fills two, a mark on another none."""
    if text.isascii():
        return len(text)
    bases = "".join(char for char in text if unicodedata.category(char) not in ("Mn", "Me", "Cf"))
    return len(bases) + len(_WIDE_CHARACTER.findall(bases))
