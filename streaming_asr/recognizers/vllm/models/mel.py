"""Log-mel spectrogram of growing audio: the same float32 numbers as of the whole, each full block computed once.

The algorithm is that of Transformers' `WhisperFeatureExtractor`: a Hann window of 400 samples every 160 samples,
centred, the audio mirrored at both ends. Frames are computed in blocks of a fixed length that begin at fixed frames,
so on every processor a frame's numbers are the same however much audio there is. Transformers computes all frames in
one product; on some processors that changes a few values by a unit in the last place.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

HOP = 160
"""Samples from frame to frame: 10 ms."""
N_FFT = 400
"""Samples that a frame looks at, centred on its first."""
MARGIN = N_FFT // 2
"""Samples around a frame's first that it needs, and that are mirrored at the audio's ends."""
FRAMES_PER_S = SAMPLE_RATE // HOP
LEAST_POWER = 1e-10
BLOCK = 32
"""Frames that are computed together, always: libraries sum a matrix product of another width in another order."""
DYNAMIC_RANGE = 8.0
"""Decades below the loudest value at which the spectrogram is cut off."""

LogPower = NDArray[np.float32]
"""Decimal logarithm of the power in each mel bin, shape ``[bins, frames]``."""
Features = NDArray[np.float32]
"""What an encoder takes: `LogPower` cut off at a floor and scaled, same shape."""


class LogMel:
    """Spectrogram of one utterance.

    Args:
        bins: of the mel scale, 80 or 128.
    """

    def __init__(self, bins: int) -> None:
        self._filters = _filters(bins)
        self._window = torch.hann_window(N_FFT)
        self._settled: LogPower = np.empty((bins, 0), np.float32)
        """Whole blocks of frames that no further sample can change."""

    def __call__(self, audio: Audio) -> LogPower:
        """Spectrogram of the utterance so far.

        Args:
            audio: all of it, shape ``[n]``, n > 200; beginning with what earlier calls were given, or the beginning
                of that.

        Returns:
            ``n // 160`` frames.
        """
        frames = len(audio) // HOP
        # The last frame sees the mirrored end unless 200 samples follow its first.
        settled = max(0, min(frames, (len(audio) - MARGIN) // HOP + 1))
        settled -= settled % BLOCK
        have = self._settled.shape[1]
        if settled > have:
            self._settled = np.concatenate((self._settled, self._frames(audio, have, settled)), axis=1)
        if settled == frames:
            return self._settled[:, :frames]
        return np.concatenate((self._settled[:, :settled], self._frames(audio, settled, frames)), axis=1)

    def _frames(self, audio: Audio, first: int, end: int) -> LogPower:
        """Frames ``[first, end)``; `first` begins a block."""
        places = np.abs(np.arange(first * HOP - MARGIN, (end - 1) * HOP + MARGIN))
        last = len(audio) - 1
        blocks = -(-(end - first) // BLOCK)
        # Silence fills the last block.
        samples = np.zeros((blocks * BLOCK - 1) * HOP + N_FFT, np.float32)
        samples[: len(places)] = audio[np.minimum(places, 2 * last - places)]
        computed = [self._block(samples[n * BLOCK * HOP :][: (BLOCK - 1) * HOP + N_FFT]) for n in range(blocks)]
        return np.concatenate(computed, axis=1)[:, : end - first]

    def _block(self, samples: Audio) -> LogPower:
        spectrum = torch.stft(
            torch.from_numpy(samples), N_FFT, HOP, window=self._window, center=False, return_complex=True
        )
        power = self._filters @ (spectrum.abs() ** 2).contiguous()
        log_power: LogPower = torch.clamp(power, min=LEAST_POWER).log10().numpy()
        return log_power


def floor_of(log_power: LogPower) -> np.float32:
    """The value at which a spectrogram is cut off."""
    floor: np.float32 = log_power.max() - np.float32(DYNAMIC_RANGE)
    return floor


def normalize(log_power: LogPower, floor: np.float32) -> Features:
    """Cut a spectrogram off at `floor` and scale it for the encoder."""
    features: Features = (np.maximum(log_power, floor) + np.float32(4.0)) / np.float32(4.0)
    return features


def _filters(bins: int) -> torch.Tensor:
    """Slaney's mel filters, shape ``[bins, 201]``."""
    filters = mel_filter_bank(
        num_frequency_bins=1 + N_FFT // 2,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float().T
