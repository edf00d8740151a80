"""CAM++: features as Kaldi's, embeddings as the published network's, and what the telephone does to them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr

from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.speakers.campplus import SHA256, SIZE, WEIGHTS, CamPlus, is_narrow
from streaming_asr.speakers.fbank import fbank
from tests.support.campplus import CLIPS, FRAME_STEP, VECTORS, clip


@pytest.mark.parametrize("name", CLIPS)
def test_the_features_are_those_of_kaldi(librivox: Path, name: str) -> None:
    features = fbank(clip(librivox, name))
    np.testing.assert_allclose(features[::FRAME_STEP], np.load(VECTORS)[f"{name}_features"], atol=2e-3)


def test_weights_in_16_bits_give_the_embeddings_of_the_published_network(librivox: Path) -> None:
    found = CamPlus().embed([clip(librivox, name) for name in CLIPS])
    assert found.shape == (len(CLIPS), SIZE)
    for name, embedding in zip(CLIPS, found, strict=True):
        published = np.load(VECTORS)[f"{name}_embedding"]
        # The ReLU that a package adds after the last layer would leave no negative number.
        assert published.min() < 0
        assert float(embedding @ published) / np.linalg.norm(published) > 0.999


def test_the_weights_are_those_that_were_converted() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256


def test_audio_that_was_once_at_8_khz_is_recognized(librivox: Path) -> None:
    wide = clip(librivox, "other")
    narrow = np.asarray(soxr.resample(soxr.resample(wide, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE), np.float32)
    as_sent = np.round(narrow * 32768).astype(np.float32) / 32768
    assert [is_narrow(wide), is_narrow(narrow), is_narrow(as_sent)] == [False, True, True]


def test_the_telephone_does_not_make_two_voices_alike(librivox: Path) -> None:
    """Without taking out what all telephone speech shares, they are about as alike as one voice is to itself."""
    readers = librivox.parent / "readers"
    first, second = (_clip(path) for path in (librivox / "sense_and_sensibility_01_0870.wav", _second_reader(readers)))
    by_telephone = [
        np.asarray(soxr.resample(soxr.resample(audio, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE), np.float32)
        for audio in (first[16_000:32_000], first[48_000:64_000], second[16_000:32_000])
    ]
    one, same, other = CamPlus().embed(by_telephone)
    assert one @ same > 0.45 > 0.25 > one @ other


def test_nothing_is_loaded_unless_labels_are_asked_for() -> None:
    code = """
import sys
from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.options import SessionOptions
from tests.support.fakes import CAPABILITIES
assert make_annotators(SessionOptions(), CAPABILITIES) == []
assert "onnxruntime" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def _second_reader(readers: Path) -> Path:
    return readers / "1272-128104-0000.wav"


def _clip(path: Path) -> np.ndarray:
    from tests.support.wire import speech

    return speech(path).astype(np.float32) / 32768
