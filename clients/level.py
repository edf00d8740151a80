"""The level of audio, for a meter."""

from __future__ import annotations

import numpy as np

FLOOR_DB = -60.0
_FALL_DB_PER_S = 40.0


class LevelMeter:
    """Measures 16-bit PCM. The level rises at once and falls slowly, so that the eye can follow.

    Args:
        bytes_per_second: of the audio.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._silent_bytes = 0
        self.level_db = FLOOR_DB
        """dBFS, `FLOOR_DB` to 0."""

    @property
    def silent_s(self) -> float:
        """How long the audio has been all zeros."""
        return self._silent_bytes / self._bytes_per_second

    def push(self, audio: bytes) -> None:
        """Measure the next audio, whole samples."""
        samples = np.frombuffer(audio, "<i2").astype(np.float32)
        if not len(samples):
            return
        power = float(np.mean(samples**2)) / 32768**2
        self._silent_bytes = self._silent_bytes + len(audio) if power == 0 else 0
        level = max(FLOOR_DB, 10 * float(np.log10(max(power, 1e-12))))
        self.level_db = max(level, self.level_db - _FALL_DB_PER_S * len(audio) / self._bytes_per_second)
