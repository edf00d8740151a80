"""How loud frames of audio are, and how loud what is always there is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

_PARTS = 4
"""A frame is measured by the second loudest of its parts: a click is in one of them."""
_SILENT = 1e-12
"""Below this power, -120 dB, all is equally silent."""
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
    share = np.float32(_PARTS / samples)
    parts = frames.reshape(count, _PARTS, samples // _PARTS)
    means = parts @ np.full(samples // _PARTS, share)
    offsets = np.sort(means, axis=1)[:, 1:-1].mean(axis=1, keepdims=True)
    powers = np.einsum("ijk,ijk->ij", parts, parts) * share
    return _second_loudest(powers + offsets * (offsets - 2 * means)), _second_loudest(powers)


def _second_loudest(powers: NDArray[np.float32]) -> list[float]:
    """In dB, of the parts of each frame."""
    return [10 * math.log10(max(power, _SILENT)) for power in np.sort(powers, axis=1)[:, -2].tolist()]


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
