"""Log-mel spectrogram of growing audio: the same float32 numbers as of the whole, each full block computed once.

The algorithm is that of Transformers' `WhisperFeatureExtractor`: a Hann window of 400 samples every 160 samples,
centred, the audio mirrored at both ends. Frames are computed in blocks of a fixed length that begin at fixed frames,
so on every processor a frame's numbers are the same however much audio there is. Transformers computes all frames in
one product; on some processors that changes a few values by a unit in the last place. `core/mel.py` has the scale and
the spectrogram in double precision: models whose inputs are to be Transformers' to the last bits need torch's.
"""

from __future__ import annotations

import numpy as np
import torch

from streaming_asr.core.mel import HOP, LEAST_POWER, MARGIN, N_FFT, LogPower, mel_filters
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

FRAMES_PER_S = SAMPLE_RATE // HOP
BLOCK = 32
"""Frames that are computed together, always: libraries sum a matrix product of another width in another order."""


class LogMel:
    """Spectrogram of one utterance.

    Args:
        bins: of the mel scale, 80 or 128.
    """

    def __init__(self, bins: int) -> None:
        self._filters = torch.from_numpy(mel_filters(bins).astype(np.float32))
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
