"""Embeddings -> speakers, with embeddings whose cosines are known."""

from __future__ import annotations

import numpy as np

from streaming_asr.core.speaker_clusters import (
    MAX_SPEAKERS,
    MAX_WAITING,
    NEEDED,
    Embedding,
    SpeakerClusters,
)

SIZE = 192


def voice(number: int, other: int | None = None, cosine: float = 0.0) -> Embedding:
    """A voice like no other, or with the given cosine to another."""
    embedding = np.zeros(SIZE, np.float32)
    embedding[number] = np.sqrt(1 - cosine**2)
    if other is not None:
        embedding[other] = cosine
    return embedding


def add(clusters: SpeakerClusters, *embeddings: Embedding) -> None:
    for embedding in embeddings:
        clusters.add(embedding)


def test_a_speaker_is_found_once_enough_windows_are_alike() -> None:
    clusters = SpeakerClusters()
    add(clusters, *[voice(0)] * (NEEDED - 1))
    assert clusters.speakers == []
    clusters.add(voice(0))
    assert clusters.speakers == [0]
    add(clusters, *[voice(1)] * NEEDED)
    assert clusters.speakers == [0, 1]


def test_noises_that_are_like_nothing_found_no_speaker() -> None:
    clusters = SpeakerClusters()
    add(clusters, *[voice(0)] * NEEDED, *(voice(number) for number in range(1, 60)))
    assert clusters.speakers == [0]


def test_odd_windows_within_the_speech_of_a_known_voice_found_no_speaker() -> None:
    odd = voice(1, 0, 0.4)
    clusters = SpeakerClusters()
    add(clusters, *[voice(0)] * NEEDED)
    for _ in range(NEEDED):
        clusters.add_stretch(np.stack([voice(0), voice(0), odd]))
    assert clusters.speakers == [0]
    for _ in range(NEEDED):
        clusters.add_stretch(odd[None])
    assert clusters.speakers == [0, 1]


def test_what_waits_is_bounded_and_the_oldest_is_dropped() -> None:
    clusters = SpeakerClusters()
    add(clusters, *[voice(0)] * (NEEDED - 1), *(voice(number) for number in range(1, MAX_WAITING + 1)), voice(0))
    assert clusters.speakers == []
    assert len(clusters._waiting) == MAX_WAITING


def test_a_voice_is_followed_as_it_changes() -> None:
    clusters = SpeakerClusters()
    add(clusters, *[voice(0)] * NEEDED)
    for _ in range(3):
        add(clusters, *[voice(1, 0, 0.7)] * 40)
    add(clusters, *[voice(1)] * NEEDED)
    assert clusters.speakers == [0]


def test_further_voices_found_no_speaker_once_there_are_as_many_as_allowed() -> None:
    clusters = SpeakerClusters()
    for number in range(MAX_SPEAKERS + 3):
        add(clusters, *[voice(number)] * NEEDED)
    assert clusters.speakers == list(range(MAX_SPEAKERS))


def test_speakers_that_turn_out_to_be_alike_become_one_with_the_older_number() -> None:
    clusters = SpeakerClusters()
    add(clusters, *[voice(0)] * NEEDED, *[voice(1)] * NEEDED)
    clusters.found(voice(2, 0, 0.9)[None])
    assert clusters.merge() == [(2, 0)]
    assert clusters.speakers == [0, 1]
