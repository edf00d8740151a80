"""The gain that follows the voice."""

from __future__ import annotations

import itertools

import pytest

from streaming_asr.voice.gain import VoiceGain

FRAME = 512
FRAMES_PER_S = 16_000 / FRAME


def _after(gain: VoiceGain, seconds: float, level: float, *, voiced: bool, floor: float = -90) -> float:
    for _ in range(int(seconds * FRAMES_PER_S)):
        gain.limit(level)
        gain.follow(level, floor, voiced=voiced)
    return gain.db


@pytest.mark.parametrize("level", [-30, -50, -65])
def test_a_voice_comes_to_the_same_level(level: float) -> None:
    """Of frames that differ in level, one in ten lies above it."""
    gain = VoiceGain(FRAME)
    spread = itertools.cycle([-20, -12, -6, -3, 0, -4, -8, -15, -10, -5])
    for _ in range(int(60 * FRAMES_PER_S)):
        gain.follow(level + next(spread), level - 40, voiced=True)
    assert level + gain.db == pytest.approx(-20, abs=4)


@pytest.mark.parametrize("level", [-120, -90, -70, -50, -30])
def test_noise_alone_is_never_raised_by_much(level: float) -> None:
    assert _after(VoiceGain(FRAME), 600, level, voiced=False, floor=level) <= 35


def test_a_noisier_room_is_raised_less() -> None:
    quiet = _after(VoiceGain(FRAME), 60, -100, voiced=False, floor=-100)
    noisy = _after(VoiceGain(FRAME), 60, -60, voiced=False, floor=-60)
    assert (quiet, noisy) == (30, 20)


def test_a_loud_sound_lowers_the_gain_at_once_and_for_a_while_only() -> None:
    gain = VoiceGain(FRAME)
    gain.limit(-12)
    assert gain.db == 2
    assert _after(gain, 10, -60, voiced=False, floor=-60) == 20


def test_what_the_voice_has_taught_outlasts_a_silence() -> None:
    gain = VoiceGain(FRAME)
    learned = _after(gain, 20, -65, voiced=True)
    assert learned > 40
    assert _after(gain, 600, -100, voiced=False, floor=-100) == learned


def test_one_loud_frame_in_a_voice_hardly_changes_the_gain() -> None:
    gain = VoiceGain(FRAME)
    before = _after(gain, 30, -50, voiced=True)
    gain.follow(-30, -90, voiced=True)
    assert before - gain.db < 1
