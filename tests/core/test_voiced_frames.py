"""Frames of a voice detector -> voiced spans of an utterance."""

from __future__ import annotations

import numpy as np

from streaming_asr.core.voiced_frames import VoicedFrames


def test_spans_count_from_the_start_that_is_asked_for() -> None:
    frames = VoicedFrames(100)
    frames.append(np.array([0, 1, 1, 0, 1], bool), 0)
    assert frames.spans(0, 500) == [(100, 300), (400, 500)]
    assert frames.spans(150, 450) == [(0, 150), (250, 300)]


def test_frames_are_added_and_forgotten_in_pieces() -> None:
    frames = VoicedFrames(100)
    for position in range(0, 1000, 200):
        frames.append(np.array([1, 0], bool), position)
    frames.forget_before(650)
    assert frames.spans(650, 1000) == [(0, 50), (150, 250)]
    assert frames.spans(0, 800) == [(600, 700)]


def test_frames_that_were_not_added_count_as_unvoiced() -> None:
    frames = VoicedFrames(100)
    frames.append(np.array([1], bool), 300)
    frames.append(np.array([1], bool), 700)
    assert frames.spans(0, 900) == [(300, 400), (700, 800)]


def test_nothing_is_voiced_before_anything_was_added() -> None:
    assert VoicedFrames(100).spans(0, 1000) == []
