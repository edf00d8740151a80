"""Voiced speech of an utterance -> the windows of it whose voices are compared.

Positions are 16 kHz samples of the utterance. A *stretch* is voiced speech without a pause of `GAP_MS`. A window never
reaches beyond its stretch, so it rarely has two voices: people who take turns leave a gap. As an utterance grows, its
windows stay the same, but for a provisional one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streaming_asr.core.recognizer import SAMPLE_RATE

WINDOW_MS = 1000
"""Speech of a whole window. Longer ones tell voices apart better, and turns worse."""
STEP_MS = 400
"""From the end of a window to that of the next one."""
SHORTEST_MS = 300
"""Of a stretch that has a window: a cough or a click has none. A provisional one begins with this much speech."""
TAIL_MS = 100
"""Speech after the last whole window of a stretch that gets a window of its own."""
LEAST_AUDIO_MS = 500
"""A shorter window is filled up with the audio around it."""
GAP_MS = 200
"""A shorter pause does not end a stretch."""

Span = tuple[int, int]
"""Samples from, and up to but not including."""


class SpeakerWindow(NamedTuple):
    """Samples ``[start, end)`` of one stretch."""

    start: int
    end: int
    whole: bool
    """Whether it has as much speech as a window can have."""


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000


_WINDOW, _STEP, _SHORTEST, _TAIL, _LEAST, _GAP = map(
    _samples, (WINDOW_MS, STEP_MS, SHORTEST_MS, TAIL_MS, LEAST_AUDIO_MS, GAP_MS)
)


def stretches_of(voiced: Sequence[Span]) -> list[Span]:
    """Voiced spans, in order, joined across gaps shorter than `GAP_MS`."""
    stretches: list[Span] = []
    for start, end in voiced:
        if stretches and start - stretches[-1][1] < _GAP:
            stretches[-1] = stretches[-1][0], end
        else:
            stretches.append((start, end))
    return stretches


def plan_windows(voiced: Sequence[Span], length: int, *, over: bool) -> list[SpeakerWindow]:
    """The windows of an utterance, in order.

    Args:
        voiced: where it is voiced, in order, within its audio.
        length: of its audio so far.
        over: whether the speech has ended; else the last stretch may go on.
    """
    windows: list[SpeakerWindow] = []
    stretches = stretches_of(voiced)
    for number, (start, end) in enumerate(stretches, 1):
        last = start
        for last in range(start + _WINDOW, end + 1, _STEP):
            windows.append(SpeakerWindow(last - _WINDOW, last, True))
        if end - start < _SHORTEST:
            continue
        ended = over or number < len(stretches) or length - end >= _GAP
        if last == start:
            windows.append(_padded(start, end, length))
        elif ended and end - last >= _TAIL:
            windows.append(SpeakerWindow(end - _WINDOW, end, True))
    return windows


def _padded(start: int, end: int, length: int) -> SpeakerWindow:
    """A window of a short stretch, with at least `LEAST_AUDIO_MS` of audio where there is as much."""
    missing = max(0, _LEAST - (end - start))
    start = max(0, start - missing // 2)
    return SpeakerWindow(start, min(length, max(end, start + _LEAST)), False)
