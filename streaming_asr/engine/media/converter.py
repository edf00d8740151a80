"""Blocks of any rate and number of channels -> one rate and one or two channels."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from streaming_asr.core.mixing import Mixer
from streaming_asr.engine.media.reader import Block

Frames = NDArray[np.float32]
"""Samples, shape ``[n, channels]``."""


class Converter:
    """Follows a recording whose rate or channels change.

    Args:
        rate: of the result, Hz.
        channels: of the result: 1 mixes all channels; 2 keeps two apart.
    """

    def __init__(self, rate: int, channels: int = 1) -> None:
        self._rate = rate
        self._channels = channels
        self._from: tuple[int, int] | None = None
        """Rate and channels of the last block."""
        self._mixer: Mixer | None = None
        self._resampler: soxr.ResampleStream | None = None

    def convert(self, block: Block) -> Frames:
        """The next samples, in -1..1. Some are returned with a later block."""
        shape = block.rate, block.frames.shape[1]
        if shape == self._from:
            return self._converted(block.frames)
        rest = self.finish()
        self._from = shape
        self._mixer = Mixer(shape[1], block.rate) if shape[1] > self._channels else None
        if block.rate != self._rate:
            self._resampler = soxr.ResampleStream(block.rate, self._rate, self._channels, dtype="float32")
        return np.concatenate([rest, self._converted(block.frames)])

    def finish(self) -> Frames:
        """The last samples."""
        if self._resampler is None:
            return np.zeros((0, self._channels), np.float32)
        rest: Frames = self._resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True)
        self._resampler = None
        return np.clip(rest, -1, 1)

    def _converted(self, frames: Frames) -> Frames:
        if self._mixer is not None:
            frames = self._mixer.mix(frames)[:, None]
        if frames.shape[1] < self._channels:
            frames = np.broadcast_to(frames, (len(frames), self._channels))
        if self._resampler is not None:
            frames = self._resampler.resample_chunk(np.ascontiguousarray(frames))
        return np.clip(frames, -1, 1)
