"""Words and their times from Whisper's alignment of tokens with audio frames."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from streaming_asr.core.recognizer import Word

FRAME_MS = 20
"""Audio that one encoder frame stands for."""
LONGEST_PAUSED_MS = 700
"""Words that the alignment stretches over a pause are cut to twice the median word, which counts as at most this."""

_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_SENTENCE_ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")
"""The last three are the full-width ones of Chinese and Japanese."""


def token_starts(alignment: Sequence[tuple[int, int]]) -> list[int]:
    """First encoder frame of each token.

    Args:
        alignment: path of (token index, frame index) pairs, both never falling, as dynamic time warping gives it.
    """
    path = np.asarray(alignment, dtype=np.int64).reshape(-1, 2)
    first = np.flatnonzero(np.diff(path[:, 0], prepend=-1))
    return [int(frame) for frame in path[first, 1]]


def words_of(
    pieces: Sequence[str], starts: Sequence[int], probabilities: Sequence[float], *, language: str | None, audio_ms: int
) -> tuple[Word, ...]:
    """Joins tokens to words, each with the punctuation that touches it.

    Args:
        pieces: text of each token.
        starts: first encoder frame of each token, and of the end where the alignment has it.
        probabilities: of each token.
        language: decides whether words are told apart by spaces or are single characters.
        audio_ms: no word ends later.
    """
    times = [min(frame * FRAME_MS, audio_ms) for frame in starts[: len(pieces) + 1]] + [audio_ms]
    words: list[Word] = []
    for first, last in _groups(pieces, spaced=language not in _WITHOUT_SPACES):
        text = "".join(pieces[first:last]).strip()
        if text:
            words.append(Word(text, times[first], times[last], float(np.mean(probabilities[first:last]))))
    return tuple(_without_pauses(words))


def _groups(pieces: Sequence[str], *, spaced: bool) -> list[tuple[int, int]]:
    """Token ranges ``[first, last)`` that make one word each."""
    groups: list[tuple[int, int]] = []
    begin = True
    for n, piece in enumerate(pieces):
        text = piece.strip()
        so_far = "".join(pieces[groups[-1][0] : n]).strip() if groups else ""
        closes = _is_punctuation(text) and not piece.startswith(" ")
        joins = _is_punctuation(so_far) or closes or (not begin and not (spaced and piece.startswith(" ")))
        if groups and joins:
            groups[-1] = (groups[-1][0], n + 1)
        else:
            groups.append((n, n + 1))
        # Without spaces a character that is whole ends its word; until then its tokens belong together.
        begin = not spaced and piece != ""
    return groups


def _is_punctuation(text: str) -> bool:
    return bool(text) and all(unicodedata.category(character).startswith("P") for character in text)


def _without_pauses(words: list[Word]) -> list[Word]:
    """Cuts words at sentence ends that the alignment stretched over the pause beside them.

    The rule is Whisper's: no such word lasts more than twice the median word.
    """
    lengths = [word.end_ms - word.start_ms for word in words if word.end_ms > word.start_ms]
    if not lengths:
        return words
    longest = 2 * min(LONGEST_PAUSED_MS, int(np.median(lengths)))
    cut = []
    for n, word in enumerate(words):
        start, end = word.start_ms, word.end_ms
        if end - start > longest:
            if word.text.endswith(_SENTENCE_ENDS) or n == len(words) - 1:
                end = start + longest
            elif n == 0 or words[n - 1].text.endswith(_SENTENCE_ENDS):
                start = end - longest
        cut.append(Word(word.text, start, end, word.probability))
    return cut
