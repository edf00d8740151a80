"""What is added to speech, and what is not speech: noise, hum, clicks, notes; rooms and telephone lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

Samples = NDArray[np.floating[Any]]
NOTES_HZ = (220, 247, 262, 294, 330, 349, 392, 440, 494, 523)


def sound(random: Generator, samples: int) -> Audio:
    """Some sound without speech, of RMS 1."""
    kinds = (_noise, _noise, _hum, _sweep, _clicks, _notes, _bursts)
    return _even(kinds[random.integers(len(kinds))](random, samples))


def colored(random: Generator, samples: int) -> Audio:
    """Noise of RMS 1 whose spectrum falls by a random power of the frequency, from about white to brown."""
    size = _fast(samples)
    spectrum = np.fft.rfft(random.standard_normal(size))
    slope = random.uniform(-0.3, 2.2)
    spectrum *= np.maximum(np.arange(len(spectrum)), 20 * size / SAMPLE_RATE) ** (-slope / 2)
    return _even(np.fft.irfft(spectrum, size)[:samples])


def _noise(random: Generator, samples: int) -> Samples:
    noise = colored(random, samples)
    depth = random.uniform(0, 0.95) if random.random() < 0.5 else 0.0
    return noise * (1 + depth * _swing(random.uniform(0.2, 6), samples))


def _hum(random: Generator, samples: int) -> Samples:
    base = random.choice((50.0, 60.0, 100.0, random.uniform(80, 800)))
    tones: Samples = np.zeros(samples)
    for n in range(1, 8):
        tones = tones + _swing(base * n, samples, n) / n ** random.uniform(0.5, 2)
    return tones + 0.05 * colored(random, samples)


def _sweep(random: Generator, samples: int) -> Samples:
    octaves = random.uniform(-1, 1) * np.arange(samples) / samples
    phase = np.cumsum(random.uniform(200, 3000) * np.exp(octaves)) / SAMPLE_RATE
    return np.sin(2 * np.pi * phase) + 0.02 * random.standard_normal(samples)


def _clicks(random: Generator, samples: int) -> Samples:
    clicks = 0.01 * colored(random, samples)
    for _ in range(random.integers(1, 12)):
        at, length = int(random.integers(samples)), int(random.integers(40, 1600))
        click = np.exp(-np.arange(length) / (length / 5)) * random.standard_normal(length)
        clicks[at : at + length] += click[: samples - at]
    return clicks


def _notes(random: Generator, samples: int) -> Samples:
    notes = 0.02 * random.standard_normal(samples)
    at = 0
    while at < samples:
        length = min(samples - at, int(random.uniform(0.1, 0.7) * SAMPLE_RATE))
        fading = np.exp(-3 * np.arange(length) / SAMPLE_RATE)
        for note in random.choice(NOTES_HZ, size=random.integers(1, 4)):
            for n in range(1, 5):
                notes[at : at + length] += _swing(note * n, length) * fading / n**2
        at += length
    return notes


def _bursts(random: Generator, samples: int) -> Samples:
    on = _swing(random.uniform(0.3, 3), samples) > random.uniform(-0.5, 0.9)
    return colored(random, samples) * on + 0.01 * random.standard_normal(samples)


def _swing(frequency: float, samples: int, phase: float = 0.0) -> Samples:
    wave: Samples = np.sin(2 * np.pi * frequency * np.arange(samples) / SAMPLE_RATE + phase)
    return wave


def room(random: Generator, audio: Audio) -> Audio:
    """The audio in a random room."""
    length = int(random.uniform(0.05, 0.4) * SAMPLE_RATE)
    echo = random.standard_normal(length) * np.exp(-6 * np.arange(length) / length)
    echo *= random.uniform(0.1, 0.7) / np.sqrt(np.sum(echo**2))
    echo[0] = 1
    size = _fast(len(audio) + length)
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(echo, size), size)
    return wet[: len(audio)].astype(np.float32)


def telephone(audio: Audio) -> Audio:
    """The audio after a telephone line: 300 to 3400 Hz."""
    size = _fast(len(audio))
    spectrum = np.fft.rfft(audio, size)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum[(frequency < 300) | (frequency > 3400)] *= 0.003
    return np.fft.irfft(spectrum, size)[: len(audio)].astype(np.float32)


def _fast(samples: int) -> int:
    """A length that is transformed quickly, at least `samples`."""
    return 1 << (samples - 1).bit_length()


def _even(audio: Samples) -> Audio:
    scaled: Audio = (audio / (np.sqrt(np.mean(np.square(audio))) + 1e-9)).astype(np.float32)
    return scaled
