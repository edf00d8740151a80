"""How loud frames are, and the noise floor."""

from __future__ import annotations

import numpy as np
import pytest

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.voice.level import NoiseFloor, levels

FRAME = 512


def _frames(samples: Audio) -> Audio:
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float32)


def _hiss(rms: float, seconds: float = 2) -> Audio:
    return np.random.default_rng(0).normal(0, rms, int(seconds * SAMPLE_RATE)).astype(np.float32)


def test_the_level_is_that_of_the_mean_power() -> None:
    assert np.mean(levels(_frames(_hiss(0.01)))[0]) == pytest.approx(-40, abs=0.7)


def test_an_offset_is_not_loud_but_takes_its_part_of_full_scale() -> None:
    hiss = _hiss(0.01)
    without, whole = levels(_frames(hiss + 0.3))
    assert np.allclose(without, levels(_frames(hiss))[0], atol=1)
    assert np.allclose(whole, 20 * np.log10(0.3), atol=0.2)


def test_clicks_are_not_loud() -> None:
    hiss = _hiss(0.01)
    clicked = np.where(np.arange(len(hiss)) % FRAME < 20, 0.9, hiss)
    for found, expected in zip(levels(_frames(clicked)), levels(_frames(hiss)), strict=True):
        assert np.mean(found) == pytest.approx(np.mean(expected), abs=1)


def test_digital_silence_has_a_level() -> None:
    assert levels(np.zeros((2, FRAME), np.float32)) == ([-120, -120], [-120, -120])


def test_the_floor_falls_fast_and_rises_slowly() -> None:
    floor = NoiseFloor(FRAME)
    for level in [-30.0] * 10 + [-70.0] * 10:
        floor.push(level)
    fallen = floor.push(-70)
    assert fallen == pytest.approx(-70, abs=1.5)
    for _ in range(SAMPLE_RATE // FRAME):
        floor.push(-30)
    assert floor.push(-30) == pytest.approx(fallen + 2, abs=0.2)
