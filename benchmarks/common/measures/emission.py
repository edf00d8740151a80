"""When each word was first to be read where it belongs, and how far the text lagged behind the speech."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from rapidfuzz.distance import Levenshtein

from benchmarks.common.measures.readings import Reading, in_common
from benchmarks.common.normalization import plain_words
from benchmarks.common.session_log import Sent

TimedWord = tuple[str, float, float]
"""A word of the reference, and where it begins and ends in the audio, seconds."""


def first_shown(readings: Sequence[Reading]) -> list[float]:
    """For each word of the last reading: when a reading first had it in this place, seconds.

    A reading's words are aligned with the last one's, so that a word counts though one before it was still missing.
    """
    if not readings:
        return []
    last = readings[-1].words
    shown: list[float | None] = [None] * len(last)
    for reading in readings:
        for place in _places(reading.words, last):
            if shown[place] is None:
                shown[place] = reading.at_s
    return [readings[-1].at_s if at_s is None else at_s for at_s in shown]


def word_delays(readings: Sequence[Reading], reference: Sequence[TimedWord]) -> list[float]:
    """For each word of the reference that the last text has right: from its end in the audio until it was shown,
    seconds (as FastEmit's, Yu et al. 2021, arXiv:2010.11148, from the first appearance).
    """
    if not readings:
        return []
    words = [(plain, end_s) for word, _, end_s in reference for plain in plain_words(word)]
    shown = first_shown(readings)
    spoken = tuple(word for word, _ in words)
    return [shown[there] - words[here][1] for here, there in _matches(spoken, readings[-1].words)]


def lagging(readings: Sequence[Reading], reference_words: int, duration_s: float, sent: Sequence[Sent] = ()) -> float:
    """Length-adaptive average lagging (Papi et al. 2022, arXiv:2206.05807), seconds.

    How far, on average, the words lag behind those of a speaker and listener in step, who divide the audio evenly.

    Args:
        readings: at least one.
        duration_s: of the speech.
        sent: with it a word's time is how much audio the server had been sent (computation-unaware), without it the
            clock's.
    """
    delays = [_heard_at(at_s, sent) if sent else at_s for at_s in first_shown(readings)]
    pace_s = duration_s / max(len(delays), reference_words)
    # Words that come when the speech is over say no more of the pace: the first of them is the last that counts.
    counted = next((number for number, delay in enumerate(delays, 1) if delay >= duration_s), len(delays))
    return sum(delay - number * pace_s for number, delay in enumerate(delays[:counted])) / counted


def _heard_at(at_s: float, sent: Sequence[Sent]) -> float:
    before = bisect_right(sent, at_s, key=lambda chunk: chunk.at_s)
    return sent[before - 1].audio_s if before else 0.0


def _places(words: tuple[str, ...], last: tuple[str, ...]) -> Iterator[int]:
    """Places of the last reading that these words fill."""
    return (there for _, there in _matches(words, last))


def _matches(one: tuple[str, ...], other: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    alike = in_common(one, other)
    yield from zip(range(alike), range(alike), strict=True)
    for step in Levenshtein.opcodes(one[alike:], other[alike:]):
        if step.tag == "equal":
            for offset in range(step.src_end - step.src_start):
                yield alike + step.src_start + offset, alike + step.dest_start + offset
