"""What `benchmarks.speakers` counts as wrong, and the talk that it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.common.speech import clips
from benchmarks.speakers.mixes import Line, mix
from benchmarks.speakers.scoring import score, together
from streaming_asr.core.recognizer import SAMPLE_RATE

TURNS = [("a", 0.0, 4.0), ("b", 4.0, 8.0), ("a", 7.0, 8.0)]
"""In the last second both speak."""


def test_labels_are_right_whatever_they_are_called() -> None:
    found = score(TURNS, [(7, 0.0, 4.0), (3, 4.0, 8.0)], 8.0)
    assert (found.wrong, found.count_right, found.labelled_s) == (0, 1, 7.0)
    assert found.one_label == pytest.approx(3 / 7)


def test_speech_with_the_label_of_another_is_wrong_and_speech_without_one_is_not_counted() -> None:
    found = score(TURNS, [(0, 0.0, 5.0), (1, 5.0, 6.0)], 8.0)
    assert (found.wrong_s, found.labelled_s) == (1.0, 6.0)


def test_a_label_too_many_is_a_wrong_count() -> None:
    labels = [(0, 0.0, 3.5), (2, 3.5, 4.0), (1, 4.0, 8.0)]
    both = together([score(TURNS, labels, 8.0), score(TURNS, [(0, 0.0, 4.0), (1, 4.0, 8.0)], 8.0)])
    assert (both.wrong_s, both.count_right, both.recordings) == (0.5, 0.5, 2)


def test_a_mix_is_the_same_for_a_seed_and_says_who_speaks_when(librivox: Path) -> None:
    speech = librivox.parent
    voices = {name: clips(speech, name) for name in ("librivox", "readers")}
    first, again = (mix(voices, 2, 3, Line.TELEPHONE) for _ in range(2))
    assert first.turns == again.turns
    np.testing.assert_array_equal(first.audio, again.audio)
    assert first.speakers == 2
    for (speaker, start, end), (following, later, _) in zip(first.turns, first.turns[1:], strict=False):
        assert speaker != following
        assert 0 < end - start <= 8.0
        assert 0.1 <= later - end <= 0.7
    assert first.turns[-1][2] < len(first.audio) / SAMPLE_RATE
