"""How loud frames of audio are, and how loud what is always there is."""

from __future__ import annotations

import functools
import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

_PARTS = 4
"""A frame is measured by the second loudest of its parts: a click is in one of them."""
_OFFSET_SHARE = 0.01
"""An offset with less of the energy than this changes the level by less than 0.1 dB."""
_SILENT = 1e-12
"""Below this power, -120 dB, all is equally silent."""
_VOICE_FALL_DB_PER_S = 8.0
"""How fast a voice is forgotten, so that a quieter one is not taken for its echo for long."""
_STEADY_FRAMES, _STEADY_DB = 4, 3.0
"""Over this many frames, the level of a voice hardly ever stays within so few dB."""
_FALL = 0.3
"""Share of the way that the floor falls to a quieter frame."""
_RISE_DB_PER_S = 2.0
"""Less than speech pauses take to come again, more than a room takes to become louder."""


def levels(frames: Audio) -> tuple[list[float], list[float]]:
    """Level of each frame in dB of full scale, without and with its DC offset; clicks do not count.

    Args:
        frames: shape ``[k, n]``, where `n` is a multiple of 4.
    """
    count, samples = frames.shape
    size = samples // _PARTS
    parts = frames.reshape(count, _PARTS, size)
    # From here on there are so few numbers that Python is faster than numpy.
    sums = (parts @ _ones(size)).tolist()
    energies = np.einsum("ijk,ijk->ij", parts, parts).tolist()
    without, full = [], []
    for part_sums, part_energies in zip(sums, energies, strict=True):
        _, low, high, _ = sorted(part_sums)
        loud = sorted(part_energies)[-2]
        full.append(_decibels(loud / size))
        offset = (low + high) / (2 * size)
        if abs(offset * max(part_sums, key=abs)) > _OFFSET_SHARE * loud:
            pairs = zip(part_energies, part_sums, strict=True)
            centered = sorted(energy + offset * (size * offset - 2 * total) for energy, total in pairs)
            without.append(_decibels(centered[-2] / size))
        else:
            without.append(full[-1])
    return without, full


@functools.cache
def _ones(size: int) -> NDArray[np.float32]:
    return np.ones(size, np.float32)


def _decibels(power: float) -> float:
    return 10 * math.log10(max(power, _SILENT))


class NoiseFloor:
    """Follows the quietest of one channel: falls fast, rises slowly.

    Args:
        frame_samples: length of the frames whose levels it is given.
    """

    def __init__(self, frame_samples: int) -> None:
        self._rise = _RISE_DB_PER_S * frame_samples / SAMPLE_RATE
        self.level: float | None = None
        """In dB of full scale; None before the first frame."""

    def push(self, level: float) -> float:
        """Take the next frame's level; returns the floor's."""
        if self.level is None:
            self.level = level
        elif level < self.level:
            self.level += _FALL * (level - self.level)
        else:
            self.level = min(level, self.level + self._rise)
        return self.level


class VoiceLevel:
    """Follows the loudest of one channel's voice: rises at once, falls slowly.

    Args:
        frame_samples: length of the frames whose levels it is given.
    """

    def __init__(self, frame_samples: int) -> None:
        self._fall = _VOICE_FALL_DB_PER_S * frame_samples / SAMPLE_RATE
        self.level = -math.inf
        """In dB of full scale; minus infinity before the first voiced frame."""

    def push(self, level: float, *, voiced: bool) -> None:
        """Take the next frame's level.

        Args:
            voiced: whether the frame surely is a voice.
        """
        self.level -= self._fall
        if voiced:
            self.level = max(level, self.level)


class Steadiness:
    """Whether the level of one channel stays the same, as that of noise does, and a voice's does not."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=_STEADY_FRAMES)

    def push(self, level: float) -> None:
        """Take the next frame's level."""
        self._latest.append(level)

    @property
    def steady(self) -> bool:
        return len(self._latest) == _STEADY_FRAMES and max(self._latest) - min(self._latest) < _STEADY_DB
