"""Utterances -> labels of speakers, with embeddings whose cosines are known."""

from __future__ import annotations

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.speaker_clusters import MAX_SPEAKERS, MEMORY, NEEDED, Embedding
from streaming_asr.core.speaker_labels import SpeakerLabels
from streaming_asr.core.speaker_windows import SpeakerWindow
from tests.core.test_speaker_clusters import voice

LENGTH = 3 * SAMPLE_RATE // 2


def said(labels: SpeakerLabels, embedding: Embedding, count: int = NEEDED) -> int:
    """The label of an utterance of as many windows."""
    windows = [SpeakerWindow(number * LENGTH, (number + 1) * LENGTH, whole=True) for number in range(count)]
    settled = labels.settle(windows, np.stack([embedding] * count), count * LENGTH)
    assert settled is not None
    return settled.of(0, count * LENGTH)


def test_labels_stay_below_the_number_of_speakers_however_many_became_one() -> None:
    """Again and again a voice is found that turns out to be that of the first speaker."""
    labels = SpeakerLabels()
    assert [said(labels, voice(number)) for number in range(3)] == [0, 1, 2]
    given = []
    for number in range(3, 3 + 2 * (MAX_SPEAKERS - 3)):
        given.append(said(labels, voice(number)))
        said(labels, voice(number, 0, 0.7), 2 * MEMORY)
        assert said(labels, voice(number, 0, 0.7)) == 0, "they are one"
        said(labels, voice(0), 4 * MEMORY)
        assert [said(labels, voice(number)) for number in range(3)] == [0, 1, 2]
    # Those that were never given come first.
    assert given == [*range(3, MAX_SPEAKERS)] * 2


def test_all_speakers_that_there_may_be_have_labels_of_their_own() -> None:
    labels = SpeakerLabels()
    everybody = range(MAX_SPEAKERS)
    assert [said(labels, voice(number)) for number in everybody] == [*everybody]
    assert said(labels, voice(MAX_SPEAKERS + 1)) in everybody
