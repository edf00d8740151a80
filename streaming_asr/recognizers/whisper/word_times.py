"""Words and their times from Whisper's alignment of tokens with audio frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from streaming_asr.core.recognizer import Word
from streaming_asr.core.scripts import SENTENCE_ENDS, split

FRAME_MS = 20
"""Audio that one encoder frame stands for."""
LONGEST_PAUSED_MS = 700
"""Words that the alignment stretches over a pause are cut to twice the median word, which counts as at most this."""

_SENTENCE_ENDS = tuple(SENTENCE_ENDS)


def token_starts(alignment: Sequence[tuple[int, int]]) -> list[int]:
    """First encoder frame of each token.

    Args:
        alignment: path of (token index, frame index) pairs, both never falling, as dynamic time warping gives it.
    """
    path = np.asarray(alignment, dtype=np.int64).reshape(-1, 2)
    first = np.flatnonzero(np.diff(path[:, 0], prepend=-1))
    return [int(frame) for frame in path[first, 1]]


def words_of(
    pieces: Sequence[str], starts: Sequence[int], probabilities: Sequence[float], *, audio_ms: int
) -> tuple[Word, ...]:
    """Joins tokens to words, each with the punctuation that touches it.

    Args:
        pieces: text of each token.
        starts: first encoder frame of each token, and of the end where the alignment has it.
        probabilities: of each token.
        audio_ms: no word ends later.
    """
    times = [min(frame * FRAME_MS, audio_ms) for frame in starts[: len(pieces) + 1]] + [audio_ms]
    words: list[Word] = []
    for first, last in _groups(pieces):
        text = "".join(pieces[first:last]).strip()
        if text:
            words.append(Word(text, times[first], times[last], float(np.mean(probabilities[first:last]))))
    return tuple(_without_pauses(words))


def _groups(pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Token ranges ``[first, last)`` that make one word each, or several where a token has more than one."""
    ends = set(accumulate(map(len, split("".join(pieces)))))
    groups: list[tuple[int, int]] = []
    first = begin = end = 0
    for n, piece in enumerate(pieces):
        # Tokens without text belong to a character whose text comes with its last token.
        if end > begin and end in ends:
            groups.append((first, n))
            first, begin = n, end
        end += len(piece)
    return [*groups, (first, len(pieces))] if pieces else []


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
