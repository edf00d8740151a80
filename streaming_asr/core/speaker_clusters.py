"""The speakers of one channel, found while they speak: embeddings of windows in, numbered speakers out.

Each speaker is the running mean of the embeddings that were taken for theirs. An embedding that is like none of them
waits, and founds a new speaker once `NEEDED` that wait are alike: a single one is as often a noise, or two voices in
one window. Speakers that turn out to be alike become one, which keeps the older number.

docs/speakers.md has how often the labels are wrong with these thresholds, as `benchmarks.speakers` measures it.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""Of unit length, shape ``[size]``: the cosine of two is their product."""
Embeddings = NDArray[np.float32]
"""Shape ``[n, size]``."""

SAME = 0.50
"""Cosine with a speaker's mean from which an embedding is theirs."""
ALIKE = 0.50
"""Cosine of two embeddings that wait, from which they count as of one voice."""
NEEDED = 3
"""Embeddings that found a speaker."""
MERGED = 0.65
"""Cosine of two means from which they are one speaker."""
MAX_SPEAKERS = 8
"""Further voices get the label of the speaker who is most like them."""
MAX_WAITING = 75
"""Embeddings that wait, as many as half a minute of speech has; the oldest is dropped for a new one."""
MEMORY = 60
"""Embeddings that a mean looks back on: a voice that changes slowly is followed."""


class SpeakerClusters:
    """The speakers of one channel. Numbers count from 0, in the order in which they were found."""

    def __init__(self, most: int = MAX_SPEAKERS) -> None:
        self._most = most
        self._means: dict[int, Embedding] = {}
        self._counts: dict[int, int] = {}
        self._waiting: deque[Embedding] = deque(maxlen=MAX_WAITING)
        self._found = 0

    @property
    def speakers(self) -> list[int]:
        """Their numbers, ascending."""
        return list(self._means)

    def similarities(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """Cosine of each embedding with each of `speakers`, shape ``[n, len(speakers)]``. There must be one."""
        means = np.stack(list(self._means.values()))
        result: NDArray[np.float32] = embeddings @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        return result

    def add_stretch(self, embeddings: Embeddings) -> None:
        """Take the embeddings of all whole windows of a stretch, in the order of speech.

        A window is a noisy sample of a voice. If on average a stretch is like a speaker, those of its windows that are
        not do not wait: they are of the same voice, or of two.
        """
        known = bool(self._means) and float(self.similarities(embeddings).mean(axis=0).max()) >= SAME
        for embedding in embeddings:
            self.add(embedding, waits=not known)

    def add(self, embedding: Embedding, *, waits: bool = True) -> None:
        """Take the embedding of a whole window, in the order of speech.

        Args:
            waits: whether it may found a speaker.
        """
        if self._means:
            similar = self.similarities(embedding[None])[0]
            best = int(similar.argmax())
            if similar[best] >= SAME:
                self._learn(self.speakers[best], embedding)
                return
        if not waits or len(self._means) >= self._most:
            return
        alike = [number for number, other in enumerate(self._waiting) if float(embedding @ other) >= ALIKE]
        if len(alike) + 1 < NEEDED:
            self._waiting.append(embedding)
            return
        self.found(np.stack([*(self._waiting[number] for number in alike), embedding]))
        for number in reversed(alike):
            del self._waiting[number]

    def found(self, embeddings: Embeddings) -> int:
        """A new speaker, of whom these embeddings are; returns their number."""
        number = self._found
        self._found += 1
        self._means[number] = embeddings.mean(axis=0)
        self._counts[number] = len(embeddings)
        return number

    def merge(self) -> list[tuple[int, int]]:
        """Make one of speakers that are alike; returns (number that is gone, number that stays) of each."""
        merged = []
        while (pair := self._most_alike()) is not None:
            kept, gone = pair
            counts = np.array([self._counts[kept], self._counts.pop(gone)], np.float32)
            self._means[kept] = counts @ np.stack([self._means[kept], self._means.pop(gone)]) / counts.sum()
            self._counts[kept] = int(counts.sum())
            merged.append((gone, kept))
        return merged

    def _most_alike(self) -> tuple[int, int] | None:
        """The two speakers that are most alike, the older first; None if no two are one."""
        if len(self._means) < 2:
            return None
        means = np.stack(list(self._means.values()))
        means = means / np.linalg.norm(means, axis=1, keepdims=True)
        similar = np.triu(means @ means.T, 1)
        older, newer = np.unravel_index(int(similar.argmax()), similar.shape)
        if similar[older, newer] < MERGED:
            return None
        return self.speakers[int(older)], self.speakers[int(newer)]

    def _learn(self, speaker: int, embedding: Embedding) -> None:
        self._counts[speaker] += 1
        mean = self._means[speaker]
        self._means[speaker] = mean + (embedding - mean) / np.float32(min(self._counts[speaker], MEMORY))
