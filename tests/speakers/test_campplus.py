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
from streaming_asr.core.speaker_clusters import SAME
from streaming_asr.speakers.campplus import SHA256, SIZE, WEIGHTS, CamPlus
from streaming_asr.speakers.fbank import fbank
from tests.support.campplus import CLIPS, FRAME_STEP, VECTORS, clip
from tests.support.wire import speech


@pytest.mark.parametrize("name", CLIPS)
def test_the_features_are_those_of_kaldi(librivox: Path, name: str) -> None:
    features = fbank(clip(librivox, name))
    np.testing.assert_allclose(features[::FRAME_STEP], np.load(VECTORS)[f"{name}_features"], atol=2e-3)


@pytest.mark.full
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


@pytest.mark.full
def test_two_readers_on_the_telephone_are_less_alike_than_one_is_to_itself(librivox: Path) -> None:
    paths = librivox / "sense_and_sensibility_01_0870.wav", librivox.parent / "readers" / "1272-128104-0000.wav"
    first, second = (speech(path, 8_000).astype(np.float32) / 32768 for path in paths)
    by_telephone = [
        np.asarray(soxr.resample(audio, 8_000, SAMPLE_RATE), np.float32)
        for audio in (first[8_000:16_000], first[24_000:32_000], second[8_000:16_000])
    ]
    one, same, other = CamPlus().embed(by_telephone)
    assert one @ same > SAME > one @ other


@pytest.mark.full
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
