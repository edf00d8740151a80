"""What the sessions send: real speech with pauses, as one loop of wire audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

_LEVEL_FRAME = SAMPLE_RATE // 100
"""Samples over which the level of the room is taken."""
_QUIETEST_ROOM = 1e-5
"""Root mean square of the noise in a recording's pauses at least; no room is digitally silent."""


@dataclass(frozen=True, slots=True)
class Material:
    """A loop of audio that every session plays, each from its own place in it."""

    chunks: tuple[bytes, ...]
    """16 bit little-endian PCM, mono, of `chunk_ms` each."""
    sample_rate: int
    """Hz, of the chunks."""
    chunk_ms: int

    @property
    def seconds(self) -> float:
        return len(self.chunks) * self.chunk_ms / 1000


def speech_loop(recordings: Sequence[Audio], share: float, seconds: float) -> Audio:
    """Recordings one after another, each followed by as much of its own room noise as makes them `share` of the time.

    Args:
        recordings: at 16 kHz, at least one; begun again if they are too short.
        share: of the time that the recordings fill, 0 (exclusive) to 1.
        seconds: length of the loop.

    Returns:
        Shape ``[seconds * 16000]``.
    """
    random = np.random.default_rng(0)
    wanted = round(seconds * SAMPLE_RATE)
    pieces: list[Audio] = []
    filled = number = 0
    while filled < wanted:
        said = recordings[number % len(recordings)]
        frames = said[: len(said) // _LEVEL_FRAME * _LEVEL_FRAME].reshape(-1, _LEVEL_FRAME)
        floor = max(float(np.sqrt(np.percentile((frames**2).mean(axis=1), 10))), _QUIETEST_ROOM)
        pause = random.normal(0, floor, round(len(said) * (1 / share - 1)))
        pieces += [said, pause.astype(np.float32)]
        filled += len(said) + len(pause)
        number += 1
    return np.concatenate(pieces)[:wanted]


def wire_material(audio: Audio, sample_rate: int, chunk_ms: int) -> Material:
    """Audio as it goes over the wire, whole chunks only.

    Args:
        audio: at 16 kHz.
        sample_rate: Hz, of the wire.
    """
    if sample_rate != SAMPLE_RATE:
        audio = soxr.resample(audio, SAMPLE_RATE, sample_rate)
    pcm = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
    size = sample_rate * chunk_ms // 1000 * 2
    whole = len(pcm) // size * size
    return Material(tuple(pcm[start : start + size] for start in range(0, whole, size)), sample_rate, chunk_ms)
