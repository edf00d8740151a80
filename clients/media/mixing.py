# A copy of streaming_asr/core/mixing.py, by `python -m tests.support.copies`: clients stand alone.
"""The channels of one recording or stream -> one, mixed by their content, not by their labels.

An average loses speech: two channels that are inverted to each other cancel, and speech on one of eight channels
becomes 18 dB quieter. So channels that are much quieter than the loudest are left out, channels that are inverted to
it are inverted back, and the rest is averaged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_S = 0.1
"""Seconds between comparisons of the channels, which set their weights."""
SILENT_DB = 30.0
"""A channel whose recent peak is this much below that of the loudest is left out."""
DECAY_DB_PER_S = 3.0
"""How fast a peak decays: slowly, so that a channel stays in the mix while its speaker pauses for some seconds."""
AUDIBLE_POWER = 1e-8
"""Mean squared sample, -80 dBFS, below which the phase of a channel is not known."""
INVERTED = -0.5
"""Channels whose correlation with the reference, a loud one, is below this are inverted to it."""
_LOUDER = 4.0
"""How many times the power of the reference a channel must have to replace it: the mix may then change its sign."""
_MEMORY_S = 0.5
"""Time constant of the correlation."""

Frames = NDArray[np.float32]
"""Samples of all channels, shape ``[n, channels]``."""


class Mixer:
    """Mixes one stream. However it is split into calls, the mix is the same.

    The weights of a block follow from the blocks before it and change linearly over it, so nothing is delayed and
    nothing clicks. The first block is averaged.

    Args:
        channels: of the stream, at least 1.
        rate: of the stream, Hz.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._channels = channels
        self._block = max(1, round(rate * BLOCK_S))
        seconds = self._block / rate
        self._decay = np.float32(10 ** (-DECAY_DB_PER_S * seconds / 10))
        self._forget = np.float32(np.exp(-seconds / _MEMORY_S))
        self._weights: NDArray[np.float32] = np.full(channels, 1 / channels, np.float32)
        self._target: NDArray[np.float32] = self._weights
        self._reference = 0
        """The channel whose phase the mix has."""
        self._peaks = np.zeros(channels, np.float32)
        """Recent peak of each channel's power."""
        self._products = np.zeros((channels, channels), np.float32)
        """Running covariance of the channels."""
        self._frames = np.empty((self._block, channels), np.float32)
        """The current block, of which the first `_filled` frames are valid."""
        self._filled = 0

    def mix(self, frames: Frames) -> NDArray[np.float32]:
        """Mix the next frames; returns shape ``[n]``."""
        if self._channels == 1:
            return frames[:, 0]
        mixed = np.empty(len(frames), np.float32)
        start = 0
        while start < len(frames):
            part = frames[start : start + self._block - self._filled]
            mixed[start : start + len(part)] = (part * self._weights_of(len(part))).sum(axis=1)
            self._frames[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            start += len(part)
            if self._filled == self._block:
                self._compare()
        return mixed

    def _weights_of(self, count: int) -> NDArray[np.float32]:
        """Weights of the block's next frames, shape ``[channels]`` or ``[count, channels]``."""
        if self._weights is self._target:
            return self._target
        along = np.arange(self._filled + 1, self._filled + count + 1, dtype=np.float32) / self._block
        return (self._weights + (self._target - self._weights) * along[:, None]).astype(np.float32, copy=False)

    def _compare(self) -> None:
        """Compare the channels of a complete block, and set the weights that the next block changes to."""
        # Without its mean: a microphone's constant offset is not sound and has no phase.
        centred = self._frames - self._frames.mean(axis=0)
        products = centred.T @ centred / self._block
        powers = np.diagonal(products)
        self._peaks = np.maximum(powers, self._peaks * self._decay)
        if powers.max() > AUDIBLE_POWER:
            self._products = self._forget * self._products + (1 - self._forget) * products
        target = self._mixed_weights()
        self._weights = self._target
        self._target = self._weights if np.array_equal(target, self._weights) else target
        self._filled = 0

    def _mixed_weights(self) -> NDArray[np.float32]:
        loudest = int(np.argmax(self._peaks))
        if self._peaks[loudest] <= AUDIBLE_POWER:
            return np.full(self._channels, 1 / self._channels, np.float32)
        audible = self._peaks >= self._peaks[loudest] * np.float32(10 ** (-SILENT_DB / 10))
        if self._peaks[loudest] > _LOUDER * self._peaks[self._reference]:
            self._reference = loudest
        own = np.diagonal(self._products)
        scale = np.sqrt(own * own[self._reference])
        inverted = self._products[self._reference] < INVERTED * scale
        weights: NDArray[np.float32] = np.where(inverted, -1, 1) * audible / np.float32(np.count_nonzero(audible))
        return weights.astype(np.float32)
