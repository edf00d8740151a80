"""Conversations made of read speech: several voices in turn, in one channel, and who speaks when."""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import soxr

from benchmarks.common.conditions import Condition
from benchmarks.common.speech import Clip
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

TURN_S = (1.0, 8.0)
"""Shortest and longest turn. A clip that is longer is cut: a voice begins and ends as in talk, within a phrase."""
PAUSE_S = (0.1, 0.7)
"""Between two turns."""
LENGTH_S = (45.0, 100.0)
_LEVEL = 0.05
"""Root mean square of each turn, before its gain."""
_GAIN_DB = 3.0
"""Voices are up to this much louder or quieter than each other."""
_TELEPHONE_HZ = (300, 3400)
_SLOPE = 8
"""Twice the order of the filters."""
_MU = 255.0
_QUIET = 0.1
"""A turn is trimmed to what is louder than this part of its loudest 20 ms."""
_NOISE_DB = 15.0


class Line(str, enum.Enum):
    """What the speech of a mix went through."""

    CLEAN = "clean"
    TELEPHONE = "telephone"
    """8 kHz, 300 to 3400 Hz, µ-law."""
    NOISE = "noise"
    """Music and other sounds, 15 dB below the speech."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A recording with its reference."""

    id: str
    audio: Audio
    turns: tuple[tuple[str, float, float], ...]
    """(speaker, start, end) in seconds. In made talk, nobody speaks at once with another."""

    @property
    def speakers(self) -> int:
        return len({speaker for speaker, _, _ in self.turns})


def mix(voices: Mapping[str, Sequence[Clip]], speakers: int, seed: int, line: Line, beds: Sequence[Audio] = ()) -> Talk:
    """Talk of `speakers` voices, drawn by `seed`: who speaks, what, for how long, and how loud each of them is.

    Args:
        voices: the clips of each speaker, each clip of one voice.
        beds: sounds for `Line.NOISE`, 16 kHz.
    """
    chance = random.Random(f"{seed}/{speakers}")
    chosen = chance.sample(sorted(voices), speakers)
    gains = {name: 10 ** (chance.uniform(-_GAIN_DB, _GAIN_DB) / 20) for name in chosen}
    length = round(chance.uniform(*LENGTH_S) * SAMPLE_RATE)
    pieces: list[Audio] = []
    turns: list[tuple[str, float, float]] = []
    position, last = 0, ""
    order = list(chosen)
    while position < length:
        # Everybody speaks once, then anyone but the last speaker does.
        name = order.pop(0) if order else chance.choice([other for other in chosen if other != last])
        turn = _turn(chance, voices[name]) * np.float32(gains[name])
        pause = np.zeros(round(chance.uniform(*PAUSE_S) * SAMPLE_RATE), np.float32)
        turns.append((name, position / SAMPLE_RATE, (position + len(turn)) / SAMPLE_RATE))
        pieces += [turn, pause]
        position += len(turn) + len(pause)
        last = name
    name = f"{line.value}-{speakers}-{seed}"
    return Talk(name, _sent(np.concatenate(pieces), line, beds, name), tuple(turns))


def _turn(chance: random.Random, clips: Sequence[Clip]) -> Audio:
    audio = _trimmed(chance.choice(clips).audio())
    size = min(len(audio), round(chance.uniform(*TURN_S) * SAMPLE_RATE))
    start = chance.randint(0, len(audio) - size)
    piece = _trimmed(audio[start : start + size])
    level = float(np.sqrt((piece**2).mean()))
    return np.asarray(piece * np.float32(_LEVEL / max(level, 1e-6)), np.float32)


def _trimmed(audio: Audio) -> Audio:
    """Without the quiet at both ends."""
    frame = SAMPLE_RATE // 50
    if len(audio) < frame:
        return audio
    levels = np.sqrt((audio[: len(audio) // frame * frame].reshape(-1, frame) ** 2).mean(axis=1))
    (loud,) = np.nonzero(levels >= _QUIET * levels.max())
    return audio[loud[0] * frame : (loud[-1] + 1) * frame]


def _sent(audio: Audio, line: Line, beds: Sequence[Audio], name: str) -> Audio:
    if line is Line.TELEPHONE:
        return _by_telephone(audio)
    if line is Line.NOISE:
        return Condition(snr_db=_NOISE_DB, beds=beds).apply(audio, name)
    return audio


def _by_telephone(audio: Audio) -> Audio:
    """Speech as a telephone line passes it."""
    narrow = np.asarray(soxr.resample(audio, SAMPLE_RATE, 8000), np.float64)
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1 / 8000)
    # Slopes as of the filters in telephones: Butterworth's, forwards and backwards.
    spectrum *= 1 / (1 + (_TELEPHONE_HZ[0] / np.maximum(hz, 1)) ** _SLOPE) / (1 + (hz / _TELEPHONE_HZ[1]) ** _SLOPE)
    narrow = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    # µ-law, by its formula: 8 bits of the logarithm of the level.
    coded = np.round(np.sign(narrow) * np.log1p(_MU * np.abs(narrow)) / np.log1p(_MU) * 127) / 127
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_MU)) / _MU
    return np.asarray(soxr.resample(decoded, 8000, SAMPLE_RATE), np.float32)
