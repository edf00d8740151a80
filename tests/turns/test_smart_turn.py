"""Smart Turn: its features are its makers', and on real speech it tells a turn's end from a break in mid-sentence."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from streaming_asr.core.mel import HOP, log_mel, mel_filters
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.turn import Pause
from streaming_asr.turns.detectors import make_turn_detector
from streaming_asr.turns.smart_turn import SHA256, WEIGHTS, WINDOW, SmartTurn, features
from tests.support.smart_turn import CLIPS, FRAME_STEP, VECTORS, clip


def _probability(audio: Audio) -> float:
    return SmartTurn(SessionOptions()).probability(Pause(audio, 200, "", "en"))


def test_the_weights_are_its_makers() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256
    assert "Redistributions in binary form" in WEIGHTS.with_suffix(".LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CLIPS)
def test_its_features_and_probabilities_are_those_of_its_makers(name: str, librivox: Path) -> None:
    audio = clip(librivox, name)
    expected = np.load(VECTORS)
    np.testing.assert_allclose(features(audio)[:, ::FRAME_STEP], expected[f"{name}_features"], rtol=0, atol=1e-5)
    assert _probability(audio) == pytest.approx(float(expected[f"{name}_probability"]), abs=1e-3)


def test_a_sentence_at_its_end_is_likelier_to_be_a_turn_than_in_its_middle(librivox: Path) -> None:
    assert _probability(clip(librivox, "whole")) > 0.8
    assert _probability(clip(librivox, "cut")) < 0.2


@pytest.mark.parametrize("seconds", [0.0, 0.1, 30.0])
def test_audio_of_any_length_is_judged_by_its_last_seconds(seconds: float) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
    made = features(audio)
    assert made.shape == (80, WINDOW // HOP)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made, features(audio[-WINDOW:]))
    assert 0 <= _probability(audio) <= 1


def test_a_tone_is_loudest_in_the_bin_around_its_frequency() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    (nearest,) = set(log_mel(tone, 80)[:, 10:-10].argmax(axis=0).tolist())
    assert mel_filters(80)[nearest, 1000 * 400 // SAMPLE_RATE] > 0


def test_a_session_that_asks_for_it_where_it_can_not_run_gets_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(make_turn_detector(SessionOptions(endpointing="turn")), SmartTurn)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"'turn' needs onnxruntime.*pip install 'streaming-asr\[turns\]'"):
        make_turn_detector(SessionOptions(endpointing="turn"))
