"""Clips under worse conditions than they were recorded in: quieter, and over other sounds."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

LOUD_DB = 20.0
"""Frames within this of the clip's loudest tenth count as speech when levels are compared."""
_FRAME = SAMPLE_RATE // 100
_SILENT_POWER = 1e-6


@dataclass(frozen=True, slots=True)
class Condition:
    """What is done to a clip before it is transcribed."""

    gain_db: float = 0.0
    """Applied last, then the samples are rounded to 16 bits, as a microphone that quiet would give them."""
    snr_db: float | None = None
    """Level of the speech above the sounds under it; None for no sounds."""
    beds: Sequence[Audio] = ()
    """Recordings without speech to put under the clips, 16 kHz. Which one follows from the clip's id."""

    def apply(self, audio: Audio, clip: str) -> Audio:
        """The clip, shape ``[n]``, under this condition."""
        audible = [bed for bed in self.beds if len(bed) and float((bed**2).mean()) > _SILENT_POWER]
        if self.snr_db is not None and audible and len(audio):
            bed = np.resize(audible[zlib.crc32(clip.encode()) % len(audible)], len(audio))
            ratio = speech_power(audio) / float((bed**2).mean())
            audio = audio + bed * np.float32(np.sqrt(ratio) * 10 ** (-self.snr_db / 20))
            # Clipping would be a condition of its own.
            audio = audio / np.float32(max(1.0, np.abs(audio).max()))
        if self.gain_db:
            audio = np.round(audio * np.float32(10 ** (self.gain_db / 20) * 32768)) / np.float32(32768)
        return audio

    def __str__(self) -> str:
        parts = [f"noise {self.snr_db:g} dB below"] if self.snr_db is not None else []
        parts += [f"{self.gain_db:+g} dB"] if self.gain_db else []
        return ", ".join(parts)


def speech_power(audio: Audio) -> float:
    """Mean squared sample of the frames of a clip, shape ``[n]``, that are surely speech."""
    if len(audio) < _FRAME:
        return float((audio**2).mean())
    powers = (audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME) ** 2).mean(axis=1)
    loud = powers >= np.percentile(powers, 90) * 10 ** (-LOUD_DB / 10)
    return float(powers[loud].mean())
