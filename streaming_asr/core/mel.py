"""Whisper's log-mel spectrogram, which several networks take.

The algorithm is that of Transformers' `WhisperFeatureExtractor`: a Hann window of 400 samples every 160 samples,
centred, the audio mirrored at both ends; power in the bins of Slaney's mel scale; its decimal logarithm, cut off 8
decades below the loudest value and scaled. It is computed here in double precision, for audio that is there as a whole.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

HOP = 160
"""Samples from frame to frame: 10 ms."""
N_FFT = 400
"""Samples that a frame looks at, centred on its first."""
MARGIN = N_FFT // 2
"""Samples around a frame's first that it needs, and that are mirrored at the audio's ends."""
LEAST_POWER = 1e-10
DYNAMIC_RANGE = 8.0
"""Decades below the loudest value at which the spectrogram is cut off."""

_LINEAR_HZ = 1000.0
"""Slaney's scale is linear up to this frequency, with `_HZ_PER_MEL`, and logarithmic above it."""
_HZ_PER_MEL = 200.0 / 3
_LOG_STEP = np.log(6.4) / 27
"""Logarithm of the ratio of two frequencies that are one mel apart, in the logarithmic part."""

LogPower = NDArray[np.float32]
"""Decimal logarithm of the power in each mel bin, shape ``[bins, frames]``."""
Features = NDArray[np.float32]
"""What an encoder takes: `LogPower` cut off at a floor and scaled, same shape."""


@lru_cache
def mel_filters(bins: int) -> NDArray[np.float64]:
    """Triangular filters of equal area, evenly spaced on Slaney's mel scale, from 0 Hz to half the sample rate.

    Returns:
        Shape ``[bins, N_FFT // 2 + 1]``. Not to be changed.
    """
    top = _LINEAR_HZ / _HZ_PER_MEL + np.log(SAMPLE_RATE / 2 / _LINEAR_HZ) / _LOG_STEP
    mels = np.linspace(0, top, bins + 2)
    knee = _LINEAR_HZ / _HZ_PER_MEL
    edges = np.where(mels < knee, mels * _HZ_PER_MEL, _LINEAR_HZ * np.exp(_LOG_STEP * (mels - knee)))
    frequencies = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    low, centre, high = (edges[start : start + bins, None] for start in range(3))
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    filters.flags.writeable = False
    return filters


def log_mel(audio: Audio, bins: int) -> LogPower:
    """Spectrogram of `audio`, shape ``[n]``, n > 200.

    Returns:
        ``n // 160`` frames.
    """
    mirrored = np.pad(audio.astype(np.float64), MARGIN, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, N_FFT)[::HOP][: len(audio) // HOP]
    spectrum = np.fft.rfft(frames * np.hanning(N_FFT + 1)[:-1], axis=-1)
    power = mel_filters(bins) @ (spectrum.real**2 + spectrum.imag**2).T
    log_power: LogPower = np.log10(np.maximum(power, LEAST_POWER)).astype(np.float32)
    return log_power


def floor_of(log_power: LogPower) -> np.float32:
    """The value at which a spectrogram is cut off."""
    floor: np.float32 = log_power.max() - np.float32(DYNAMIC_RANGE)
    return floor


def normalize(log_power: LogPower, floor: np.float32) -> Features:
    """Cut a spectrogram off at `floor` and scale it for the encoder."""
    features: Features = (np.maximum(log_power, floor) + np.float32(4.0)) / np.float32(4.0)
    return features
