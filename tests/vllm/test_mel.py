"""The spectrogram of growing audio is that of the whole, and Transformers' up to the rounding of its sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from streaming_asr.core.mel import HOP, floor_of, normalize
from streaming_asr.core.recognizer import Audio
from streaming_asr.recognizers.vllm.models.mel import LogMel
from tests.vllm.engine import speech

ROUNDING = 1e-6
"""Features lie between -1.5 and 1.5. Processors sum a matrix product in different orders, which moves the last bits."""


def transformers_features(audio: Audio, bins: int) -> np.ndarray:
    made = WhisperFeatureExtractor(feature_size=bins)(
        audio, sampling_rate=16_000, padding=True, truncation=False, return_attention_mask=True, return_tensors="np"
    )
    return made["input_features"][0][:, made["attention_mask"][0].astype(bool)]


def assert_close(features: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(features, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("bins", "seconds", "step"), [(80, 24, 7999), (128, 24, 1601), (128, 3, HOP)])
def test_growing_audio_has_the_spectrogram_of_the_whole(librivox: Path, bins: int, seconds: float, step: int) -> None:
    audio = speech(librivox, seconds)
    mel = LogMel(bins)
    ends = list(range(8000, len(audio), step))
    checked = {*ends[:3], *ends[:: len(ends) // 12], ends[-1]}
    for end in ends:
        log_power = mel(audio[:end])
        if end in checked:
            np.testing.assert_array_equal(log_power, LogMel(bins)(audio[:end]))
            features = normalize(log_power, floor_of(log_power))
            assert_close(features, transformers_features(audio[:end], bins))


def test_earlier_audio_can_be_asked_for_again(librivox: Path) -> None:
    audio = speech(librivox, 3)
    mel = LogMel(128)
    mel(audio)
    np.testing.assert_array_equal(mel(audio[:20_000]), LogMel(128)(audio[:20_000]))


def test_mirrors_short_audio_at_both_ends(librivox: Path) -> None:
    audio = speech(librivox, 1)[:500]
    log_power = LogMel(80)(audio)
    assert_close(normalize(log_power, floor_of(log_power)), transformers_features(audio, 80))


def test_the_tolerance_notices_a_spectrogram_of_a_part(librivox: Path) -> None:
    # At a cut, a part sees its mirrored end where the whole sees what follows.
    audio = speech(librivox, 4)
    whole, part = LogMel(128)(audio), LogMel(128)(audio[: 2 * 16_000])
    floor = floor_of(whole)
    assert np.abs(normalize(whole[:, :200], floor) - normalize(part, floor)).max() > 1000 * ROUNDING
