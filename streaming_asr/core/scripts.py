"""Where texts that follow one another need a space between them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def following(left: str, right: str) -> str:
    """`right` as it must follow `left`: with a space between them where the script has spaces."""
    if not left or not right or _wide(left[-1]) or _wide(right[0]):
        return right
    return " " + right


def joined(texts: Iterable[str]) -> str:
    """One text of several."""
    whole = ""
    for text in texts:
        whole += following(whole, text)
    return whole


def _wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"
