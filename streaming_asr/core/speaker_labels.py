"""Which speaker has each moment of an utterance: the windows around it vote, the nearer the more.

The speaker of an utterance that is over is settled: later speech never changes a label that was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.speaker_clusters import MAX_SPEAKERS, SAME, Embeddings, SpeakerClusters
from streaming_asr.core.speaker_windows import SpeakerWindow

SLOT = SAMPLE_RATE // 10
"""Samples that have one label."""
_REACH = SAMPLE_RATE // 5
"""How far a window votes beyond its own length."""
_FAR = 1e-6
"""Weight of a vote from further away, which counts only where there is no nearer one."""


class UtteranceSpeakers:
    """The labels of one utterance.

    Args:
        labels: of each slot, shape ``[n]``; from 0.
    """

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self._labels = labels

    def of(self, start: int, end: int) -> int:
        """The speaker of most of samples ``[start, end)`` of the utterance."""
        first = min(max(0, start // SLOT), len(self._labels) - 1)
        last = max(first + 1, -(-end // SLOT))
        return int(np.bincount(self._labels[first:last]).argmax())


class SpeakerLabels:
    """Labels the utterances of one channel. A speaker's label is a number from 0 to `MAX_SPEAKERS` - 1, in the order of
    first labels. Where two speakers became one, the label that is left is given again once all others have been.
    """

    def __init__(self) -> None:
        self._clusters = SpeakerClusters(MAX_SPEAKERS)
        self._labels: dict[int, int] = {}
        """By the clusters' number of a speaker."""
        self._unused = deque(range(MAX_SPEAKERS))
        """Labels that no speaker has. There is one for each new speaker, as there are at most `MAX_SPEAKERS`."""
        self._last: int | None = None
        """The label of the end of the last utterance."""

    def provisional(self, windows: Sequence[SpeakerWindow], embeddings: Embeddings) -> int | None:
        """Who is speaking at the end of an utterance that goes on; None as long as nobody knows. Nothing is learned
        from it.

        Args:
            embeddings: of each window, shape ``[len(windows), size]``.
        """
        if not len(windows):
            return None
        if not self._clusters.speakers:
            return 0
        latest = self._clusters.similarities(embeddings[-2:]).mean(axis=0)
        best = int(latest.argmax())
        if latest[best] < SAME / 2:
            return None
        return self._labels.get(self._clusters.speakers[best])

    def settle(self, windows: Sequence[SpeakerWindow], embeddings: Embeddings, length: int) -> UtteranceSpeakers | None:
        """Learn from an utterance that is over, and label it. Call it in the order of speech.

        Args:
            embeddings: of each window, shape ``[len(windows), size]``.
            length: of the utterance, samples.

        Returns:
            None if nothing is known of any speaker.
        """
        slots = max(1, -(-length // SLOT))
        if not windows:
            # Too short to know a voice by: as a rule the same goes on.
            return None if self._last is None else UtteranceSpeakers(np.full(slots, self._last))
        for stretch in _stretches(windows):
            self._clusters.add_stretch(embeddings[stretch])
        for gone, kept in self._clusters.merge():
            labels = sorted(self._labels.pop(speaker) for speaker in (gone, kept) if speaker in self._labels)
            if labels:
                self._labels[kept] = labels[0]
                self._unused.extend(labels[1:])
        if not self._clusters.speakers:
            self._clusters.found(embeddings)
        votes = _weights(windows, slots) @ self._clusters.similarities(embeddings)
        speakers = [self._clusters.speakers[index] for index in votes.argmax(axis=1)]
        given = np.array([self._label(speaker) for speaker in speakers])
        self._last = int(given[-1])
        return UtteranceSpeakers(given)

    def _label(self, speaker: int) -> int:
        if speaker not in self._labels:
            self._labels[speaker] = self._unused.popleft()
        return self._labels[speaker]


def _stretches(windows: Sequence[SpeakerWindow]) -> list[list[int]]:
    """Numbers of the whole windows of each stretch that has any: those of one overlap, and those of two do not."""
    stretches: list[list[int]] = []
    end = -1
    for number, window in enumerate(windows):
        if window.whole:
            if window.start >= end:
                stretches.append([])
            stretches[-1].append(number)
            end = window.end
    return stretches


def _weights(windows: Sequence[SpeakerWindow], slots: int) -> NDArray[np.float64]:
    """How much each window counts in each slot, shape ``[slots, len(windows)]``: a triangle around its middle."""
    starts, ends = (np.array([window[side] for window in windows], np.float64) for side in (0, 1))
    middles = (np.arange(slots) + 0.5)[:, None] * SLOT
    distance = np.abs(middles - (starts + ends) / 2) / ((ends - starts) / 2 + _REACH)
    near: NDArray[np.float64] = np.maximum(1 - distance, _FAR / (1 + distance) ** 4)
    return near
