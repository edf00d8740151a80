"""Simplified characters for Mandarin: multilingual Whispers write either kind, and change between them in one text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any


@cache
def converter() -> Any:
    """OpenCC, from traditional to simplified characters.

    Raises:
        ImportError: it is not installed.
    """
    import opencc

    return opencc.OpenCC("t2s")


def simplified(pieces: Iterable[str]) -> tuple[str, ...]:
    """The same pieces of text in simplified characters.

    Each piece is converted by itself, so that text which has been shown does not change with the text that follows.
    """
    return tuple(piece if piece.isascii() else converter().convert(piece) for piece in pieces)
