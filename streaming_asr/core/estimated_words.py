"""Times for the words of a text of which only the whole is timed: each gets a part in proportion to its width."""

from __future__ import annotations

from streaming_asr.core.recognizer import TimesFrom, Word
from streaming_asr.core.scripts import split, width


def time_pieces(text: str, start_ms: int, end_ms: int) -> list[Word]:
    """The pieces of `text` (see `scripts.split`), each with a part of the time."""
    pieces = split(text)
    widths = [max(1, width("".join(piece.split()))) for piece in pieces]
    timed, passed, total, start = [], 0, sum(widths), start_ms
    for piece, columns in zip(pieces, widths, strict=True):
        passed += columns
        end = start_ms + (end_ms - start_ms) * passed // total
        timed.append(Word(piece, start, end, times_from=TimesFrom.ESTIMATE))
        start = end
    return timed


def estimate_words(text: str, start_ms: int, end_ms: int) -> tuple[Word, ...]:
    """The words of `text`, without surrounding white space; what has no letter and no figure is not one."""
    return tuple(
        Word(piece.text.strip(), piece.start_ms, piece.end_ms, times_from=TimesFrom.ESTIMATE)
        for piece in time_pieces(text, start_ms, end_ms)
        if any(map(str.isalnum, piece.text))
    )
