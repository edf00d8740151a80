"""Kaldi's log-mel filter bank, which networks for speaker verification take.

The algorithm is that of Kaldi's `compute-fbank-feats` without dither and energy: frames of 25 ms every 10 ms, as many
as fit whole; each is freed of its mean, pre-emphasized, and shaped by Povey's window; then the power in triangular
filters on the scale ``1127 ln(1 + f / 700)``. Whisper's spectrogram, in `core.mel`, differs in all of these.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.mel import HOP
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

WINDOW = SAMPLE_RATE * 25 // 1000
"""Samples of one frame."""
BINS = 80
LOWEST_HZ = 20.0
_N_FFT = 512
_PRE_EMPHASIS = 0.97
_POVEY_POWER = 0.85
_LEAST_POWER = 1.1920929e-7
"""Of a bin: the smallest step of a float32 at 1. It counts for audio in -1..1; Kaldi itself takes 16-bit samples."""

Fbank = NDArray[np.float32]
"""Natural logarithm of the power in each bin, shape ``[frames, BINS]``."""


def fbank(audio: Audio) -> Fbank:
    """Filter bank of `audio`, shape ``[n]``, n >= 400.

    Returns:
        ``(n - 400) // 160 + 1`` frames.
    """
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    # The first sample has none before it, and Kaldi takes itself for that.
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = np.hanning(WINDOW) ** _POVEY_POWER
    spectrum = np.fft.rfft((frames - _PRE_EMPHASIS * before) * window, n=_N_FFT, axis=1)
    power = np.abs(spectrum) ** 2 @ _filters().T
    features: Fbank = np.log(np.maximum(power, _LEAST_POWER)).astype(np.float32)
    return features


@cache
def _filters() -> NDArray[np.float64]:
    """Shape ``[BINS, _N_FFT // 2 + 1]``; triangles whose sides are straight on the mel scale, of height 1."""
    edges = np.linspace(_mel(LOWEST_HZ), _mel(SAMPLE_RATE / 2), BINS + 2)
    mels = _mel(np.arange(_N_FFT // 2 + 1) * SAMPLE_RATE / _N_FFT)
    low, centre, high = (edges[start : start + BINS, None] for start in range(3))
    filters: NDArray[np.float64] = np.maximum(
        0, np.minimum((mels - low) / (centre - low), (high - mels) / (high - centre))
    )
    filters.flags.writeable = False
    return filters


def _mel(hz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)
