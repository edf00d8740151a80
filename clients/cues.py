"""Utterances -> subtitle cues short enough to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from clients.events import Final, Word

MAX_CELLS = 84
"""Of a cue: two lines of 42 columns; a Chinese character fills two."""
MAX_MS = 7_000
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "…")
_CLAUSE_ENDS = (",", ";", ":", "，", "；", "：", "、")
_PAUSE_MS = 400
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Kana and Chinese characters: written without spaces, so a cue may end behind any of them."""
_PIECE = re.compile(rf"\s*(?:[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+)")


@dataclass(frozen=True)
class Cue:
    start_ms: int
    end_ms: int
    text: str
    channel: int = 0


def cues_of(final: Final) -> list[Cue]:
    """The cues of one utterance, in order; none if it is empty.

    With word times each cue has the times of its words; without, the utterance's time is divided by length of text.
    """
    if not final.text.strip():
        return []
    words = _timed_words(final.text, final.words or ()) or _guessed_words(final.text, final.start_ms, final.time_ms)
    return [_cue(group, final.channel) for group in _groups(words)]


def _timed_words(text: str, words: Sequence[Word]) -> list[Word]:
    """The words with all that is between them in the text, so that joined they are the text; empty if they are not
    those of the text."""
    timed, end = [], 0
    for index, word in enumerate(words):
        bare = word.text.strip()
        found = text.find(bare, end)
        if not bare or found < 0:
            return []
        following = found + len(bare) if index + 1 < len(words) else len(text)
        timed.append(Word(text=text[end:following], start_ms=word.start_ms, end_ms=word.end_ms))
        end = following
    return timed


def _guessed_words(text: str, start_ms: int, end_ms: int) -> list[Word]:
    """Words as if all were spoken equally fast for their width; joined they are the text."""
    pieces = _PIECE.findall(text)
    widths = [max(1, cell_len(piece)) for piece in pieces]
    words, passed, total = [], 0, sum(widths)
    for piece, width in zip(pieces, widths, strict=True):
        start = start_ms + (end_ms - start_ms) * passed // total
        passed += width
        words.append(Word(text=piece, start_ms=start, end_ms=start_ms + (end_ms - start_ms) * passed // total))
    return words


def _groups(words: Sequence[Word]) -> list[list[Word]]:
    """Words in groups that fit a cue, cut at the best place where they do not all fit."""
    groups, rest = [], list(words)
    while rest:
        fitting = _fitting(rest)
        count = fitting if fitting == len(rest) else _best_cut(rest, fitting)
        groups.append(rest[:count])
        rest = rest[count:]
    return groups


def _fitting(words: Sequence[Word]) -> int:
    """How many words, at least one, fit the first cue."""
    count = 1
    while count < len(words):
        if cell_len(_joined(words[: count + 1])) > MAX_CELLS:
            break
        if words[count].end_ms - words[0].start_ms > MAX_MS:
            break
        count += 1
    return count


def _best_cut(words: Sequence[Word], fitting: int) -> int:
    """After the end of a sentence, else at a pause, else after a clause, in the later half of what fits."""
    cuts = range(fitting, max(1, fitting // 2) - 1, -1)
    for ends in (_SENTENCE_ENDS, None, _CLAUSE_ENDS):
        for count in cuts:
            word, following = words[count - 1], words[count]
            if ends is None:
                if following.start_ms - word.end_ms >= _PAUSE_MS:
                    return count
            elif word.text.rstrip().endswith(ends):
                return count
    return fitting


def _joined(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words).strip()


def _cue(words: Sequence[Word], channel: int) -> Cue:
    start = words[0].start_ms
    return Cue(start, max(start + 1, words[-1].end_ms), _joined(words), channel)
