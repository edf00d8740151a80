"""Silero behind a gain, so that it judges a quiet voice as it judges a loud one: the default detector.

`AdaptiveDetector` is for live streams: it asks Silero only about what is above the noise floor, and rarely while the
answer is clear. `ThoroughDetector` asks about every frame. Why they are as they are is in docs/vad.md.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.recognizer import Audio
from streaming_asr.core.voice import Detection
from streaming_asr.voice.gain import VoiceGain
from streaming_asr.voice.level import NoiseFloor, Steadiness, VoiceLevel, levels
from streaming_asr.voice.silero import CONTEXT, FRAME, Memory, SileroQuery
from streaming_asr.voice.threshold import Threshold

_SCALE, _HYSTERESIS = 0.7, 0.23
_THOROUGH_SCALE, _THOROUGH_HYSTERESIS = 0.8, 0.25
"""A frame is voiced from a probability of this much of the threshold, so that 0.5 is balanced here, too."""
_ABOVE_FLOOR_DB = 3.0
"""What is not this much above the noise floor is not voiced."""
_EVIDENCE = 0.5
"""Probability of speech from which the gain learns from a frame."""
_WARM_UP_FRAMES = 16
"""Frames from before the noise floor was left that Silero is given, half a second."""
_SURELY_VOICED_FRAMES, _SURELY_UNVOICED_FRAMES = 7, 4
"""How often Silero is asked while it is sure: every 224 ms of a voice, and every 128 ms of anything else."""
_NOISE, _NOISE_FRAMES = 0.12, 6
"""Below this probability, a steady level is noise, and Silero is asked about every sixth frame of it."""
_NOISE_DB = 3.0
"""Noise that changes by this much may be something else."""
_SURE_GIVEN = 3
"""Frames that it is then given; its memory bridges the others."""
_FALL_DB, _FAR_BELOW_DB = 10.0, 20.0
"""Silero, sure of a voice, is asked all the same once the level has fallen by this much since it was asked, or is this
much below the voice: the voice may have ended."""
_TAIL_DB = 24.0
"""What is this much below the voice is taken for what follows one: breath, echo, noise."""
_IN_TAIL, _STEADY = 0.85, 0.7
"""Probability that a frame needs to be voiced if it is so far below the voice, or if the level is steady. Both: none is
enough. Silero takes up to half a second to notice that a voice has ended in noise."""
_BLOCK = 8
"""Frames that `ThoroughDetector` asks about together: their gain must be known before the answers are."""


def _amplified(frames: list[Audio], gains: list[float]) -> Audio:
    """The frames, each with its gain in dB, clipped to full scale, shape ``[k, FRAME]``."""
    factors = np.array([10 ** (gain / 20) for gain in gains], np.float32)
    loud = np.array(frames, np.float32) * factors[:, None]
    np.minimum(loud, 1, out=loud)
    np.maximum(loud, -1, out=loud)
    return loud


class AdaptiveDetector:
    """A slow gain that follows the voice, a gate at the noise floor, and Silero, asked rarely while it is sure.

    Args:
        threshold: 0 to 1; 0.5 is balanced, higher calls fewer frames voiced.

    Raises:
        ValueError: the threshold is out of range.
    """

    frame_samples = FRAME

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = Threshold(_SCALE * threshold, _HYSTERESIS)
        self.reset()

    def reset(self) -> None:
        self._floor = NoiseFloor(FRAME)
        self._voice = VoiceLevel(FRAME)
        self._steadiness = Steadiness()
        self._gain = VoiceGain(FRAME)
        self._memory = Memory()
        nothing = [(np.zeros(FRAME, np.float32), 0.0)] * (_WARM_UP_FRAMES + 1)
        self._latest: deque[tuple[Audio, float]] = deque(nothing, maxlen=len(nothing))
        """What Silero may still be given, and the frame before it, each with its gain."""
        self._unseen = 0
        """Frames since Silero was last asked."""
        self._probability = 0.0
        """Its latest answer."""
        self._loud = 0.0
        """Level of the frame that it was about."""
        self._sure = self._voiced = False

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        decisions = np.zeros(len(frames), bool)
        for index, (level, full_level) in enumerate(zip(*levels(frames), strict=True)):
            floor = self._floor.push(level)
            self._steadiness.push(level)
            self._gain.limit(full_level)
            self._latest.append((frames[index], self._gain.db))
            self._unseen += 1
            if level < floor + _ABOVE_FLOOR_DB:
                self._sure = self._voiced = False
            elif self._due(level):
                yield from self._ask(level)
            decisions[index] = self._voiced
            surely = self._voiced and self._probability >= _EVIDENCE
            self._voice.push(level, voiced=surely)
            self._gain.follow(level, floor, voiced=surely)
        return decisions

    def _due(self, level: float) -> bool:
        """Whether Silero is to be asked about the latest frame, which is of this level."""
        if self._voiced and level < max(self._loud - _FALL_DB, self._voice.level - _FAR_BELOW_DB):
            self._sure = False
        elif self._is_noise(level):
            self._sure = True
            return self._unseen >= _NOISE_FRAMES
        return not self._sure or self._unseen >= (_SURELY_VOICED_FRAMES if self._voiced else _SURELY_UNVOICED_FRAMES)

    def _is_noise(self, level: float) -> bool:
        """Whether the latest frame, of this level, is like the one that Silero was asked about, and not a voice."""
        if self._voiced or self._probability >= _NOISE:
            return False
        return abs(level - self._loud) < _NOISE_DB and self._steadiness.steady

    def _ask(self, level: float) -> Detection[None]:
        """Ask Silero about the latest frame, which is of this level."""
        if self._unseen > _WARM_UP_FRAMES:
            self._memory = Memory()
        given = min(self._unseen, _SURE_GIVEN if self._sure else _WARM_UP_FRAMES)
        frames, gains = zip(*list(self._latest)[-given - 1 :], strict=True)
        amplified = _amplified(list(frames), list(gains))
        self._probability = (yield SileroQuery(amplified[0, -CONTEXT:], amplified[1:], self._memory))[-1]
        needed = self._needed(level)
        self._voiced = self._probability >= needed and self._threshold.reached(self._probability, self._voiced)
        self._sure = self._threshold.sure(self._probability)
        self._unseen = 0
        self._loud = level

    def _needed(self, level: float) -> float:
        """Probability that the latest frame, of this level, needs at least to be voiced."""
        in_tail, steady = level < self._voice.level - _TAIL_DB, self._steadiness.steady
        if in_tail and steady:
            return math.inf
        return _IN_TAIL if in_tail else _STEADY if steady else 0.0


class ThoroughDetector:
    """A slow gain that follows the voice, and Silero, asked about every frame: for recordings.

    Args:
        threshold: 0 to 1; 0.5 is balanced, higher calls fewer frames voiced.

    Raises:
        ValueError: the threshold is out of range.
    """

    frame_samples = FRAME

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = Threshold(_THOROUGH_SCALE * threshold, _THOROUGH_HYSTERESIS)
        self.reset()

    def reset(self) -> None:
        self._floor = NoiseFloor(FRAME)
        self._gain = VoiceGain(FRAME)
        self._memory = Memory()
        self._before = np.zeros(CONTEXT, np.float32)
        self._voiced = False
        self._learned: list[tuple[float, float, bool]] = []
        """Level, noise floor and whether it surely is a voice, of each frame of the block so far."""

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        decisions = np.zeros(len(frames), bool)
        start = 0
        while start < len(frames):
            block = frames[start : start + _BLOCK - len(self._learned)]
            decisions[start : start + len(block)] = yield from self._decide(block)
            start += len(block)
        return decisions

    def _decide(self, frames: Audio) -> Detection[list[bool]]:
        """Decide on frames of one block."""
        heights, full_heights = levels(frames)
        gains = []
        for full_height in full_heights:
            self._gain.limit(full_height)
            gains.append(self._gain.db)
        amplified = _amplified(list(frames), gains)
        probabilities = yield SileroQuery(self._before, amplified, self._memory)
        self._before = amplified[-1, -CONTEXT:].copy()
        decisions = []
        for level, probability in zip(heights, probabilities, strict=True):
            self._voiced = self._threshold.reached(probability, self._voiced)
            decisions.append(self._voiced)
            self._learned.append((level, self._floor.push(level), probability >= _EVIDENCE))
        if len(self._learned) == _BLOCK:
            for level, floor, voiced in self._learned:
                self._gain.follow(level, floor, voiced=voiced)
            self._learned.clear()
        return decisions
