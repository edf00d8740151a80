"""What subtitles need to know of writing systems: where a text may be cut, and how wide it is.

A script without spaces may be cut between characters, not between a character and its vowel signs, tone marks and
punctuation. The server has the same in `streaming_asr/core/scripts.py`, and the page in `clients/browser/scripts.js`;
all three pass the cases of `tests/vectors/scripts.json`.
"""

from __future__ import annotations

import re
import unicodedata

SENTENCE_ENDS = ".?!…。？！．｡؟۔।॥។៕။"
CLAUSE_ENDS = ",;:，；：､、،؛၊"

_UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003ffff"  # Han
    "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana and Katakana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u0e01-\u0e5b"  # Thai
    "\u0e81-\u0edf"  # Lao
    "\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17e9"  # Khmer
)
"""Scripts without spaces between words. Korean's is not among them."""
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

_LETTER = rf"(?=[^\W\d_])[{_UNSPACED}]"
_PIECE = re.compile(
    rf"\s*(?:[{_OPENING}]*[{_LEADING_VOWELS}]*{_LETTER}(?:[{_STACKING}]{_LETTER}|[{_TRAILING}]|[^\w\s{_OPENING}])*"
    rf"|(?:(?![{_OPENING}]{{0,3}}{_LETTER})\S)+)"
)
_WIDE_CHARACTER = re.compile(f"[{_WIDE}]")


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
