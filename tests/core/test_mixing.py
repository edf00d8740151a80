"""The mix keeps speech on any of the channels, whatever their phases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_asr.core.mixing import Mixer

RATE = 16_000


def _voice(seconds: float = 3, seed: int = 0) -> NDArray[np.float32]:
    """Noise that swells and fades as syllables do."""
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return (noise * (1 + np.sin(np.arange(len(noise)) * 2 * np.pi * 3 / RATE))).astype(np.float32)


def _hiss(db: float, count: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 10 ** (db / 20), count).astype(np.float32)


def _mix(*channels: NDArray[np.float32], rate: int = RATE) -> NDArray[np.float32]:
    return Mixer(len(channels), rate).mix(np.stack(channels, axis=1).astype(np.float32))


def _db(mixed: NDArray[np.float32], voice: NDArray[np.float32]) -> float:
    """Level of the voice in the mix beside the voice itself, after the first quarter of a second."""
    mixed, voice = mixed[RATE // 4 :], voice[RATE // 4 :]
    return float(20 * np.log10(abs(mixed @ voice) / (voice @ voice)))


def test_equal_channels_are_averaged() -> None:
    voice = _voice()
    np.testing.assert_allclose(_mix(voice, voice), voice, atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.98, 0.5])
def test_an_inverted_channel_does_not_cancel_the_other(share: float) -> None:
    voice = _voice()
    assert _db(_mix(voice, -share * voice), voice) > -3


def test_an_inverted_channel_is_found_in_spite_of_constant_offsets() -> None:
    voice = _voice()
    assert _db(_mix(voice + 0.3, 0.3 - voice), voice) > -1
    np.testing.assert_allclose(_mix(voice + 0.3, voice - 0.3), voice, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 22, 64])
def test_speech_on_any_one_channel_keeps_its_level(count: int) -> None:
    voice = _voice()
    for place in {0, 2, 3, count - 1} & set(range(count)):
        channels = [_hiss(-70, len(voice), seed) for seed in range(count)]
        channels[place] = channels[place] + voice
        assert _db(_mix(*channels), voice) == pytest.approx(0, abs=0.5)


def test_two_speakers_who_take_turns_on_two_channels_are_both_heard() -> None:
    first, second = _voice(2), _voice(2, seed=5)
    nothing = _hiss(-70, 2 * RATE)
    left = np.concatenate([first, nothing, first, nothing])
    right = np.concatenate([nothing, second, nothing, second])
    mixed = _mix(left, right)
    for start, voice in ((2, second), (4, first), (6, second)):
        part = mixed[start * RATE : (start + 2) * RATE]
        assert -6.5 < _db(part, voice) < 0.5


def test_voices_that_have_nothing_in_common_are_averaged() -> None:
    one, other = _voice(), _voice(seed=7)
    np.testing.assert_allclose(_mix(one, other), (one + other) / 2, atol=1e-6)


def test_silence_is_silence() -> None:
    assert not _mix(np.zeros(RATE, np.float32), np.zeros(RATE, np.float32)).any()


def test_nothing_clicks_when_a_channel_is_turned_round() -> None:
    tone = (0.3 * np.sin(np.arange(3 * RATE) * 2 * np.pi * 200 / RATE)).astype(np.float32)
    turning = np.concatenate([tone[:RATE], -tone[RATE:]])
    steps = np.abs(np.diff(_mix(tone, turning)))
    assert steps.max() < 1.2 * np.abs(np.diff(tone)).max()


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 4000), max_size=8), count=st.integers(1, 5), rate=st.sampled_from([8000, 44_100]))
def test_the_mix_does_not_depend_on_how_the_stream_is_split(cuts: list[int], count: int, rate: int) -> None:
    frames = np.random.default_rng(count).normal(0, 0.1, (4000, count)).astype(np.float32)
    frames[2000:, -1] = -frames[2000:, 0]
    whole = Mixer(count, rate).mix(frames)
    mixer = Mixer(count, rate)
    edges = [0, *sorted(cuts), len(frames)]
    parts = [mixer.mix(frames[start:end]) for start, end in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
