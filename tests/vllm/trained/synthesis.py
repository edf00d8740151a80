"""Speech of the vocabulary by espeak-ng, with the place of each word and phone.

It needs the package ``espeakng-loader``, which carries the library and its voices.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

ACCENTS = {"en": ("en-us", "en", "en-gb-x-rp"), "zh": ("cmn",)}
# fmt: off
VARIANTS = (
    "", "f1", "f2", "f4", "f5", "m1", "m2", "m3", "m4", "m6", "m7", "m8", "Alex", "Alicia", "Andrea", "Andy", "Denis",
    "Diogo", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "antonio", "belinda", "caleb", "david",
    "edward", "ian", "john", "max", "paul", "robert", "sandro", "shelby", "steph",
)
# fmt: on
HELD_OUT = ("f3", "m5", "Annie", "linda", "pablo", "steph3")
"""Variants that are never trained on."""

_EVENT_END, _EVENT_WORD, _EVENT_PHONE = 0, 1, 7
_PHONE_EVENTS = 1
_RATE, _PITCH, _RANGE, _GAP = 1, 3, 4, 7
_SYNCHRONOUS = 2


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", _Id),
    ]


@dataclass(frozen=True, slots=True)
class Voice:
    """How a sentence is spoken."""

    name: str
    rate: int = 165
    """Words a minute."""
    pitch: int = 50
    range: int = 50
    gap: int = 0
    """Between words, in units of 10 ms."""
    stretch: float = 1.0
    """Of the whole sound, which shifts its formants too."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence that was synthesized."""

    audio: Audio
    """At 16 kHz, without silence around it."""
    ends: tuple[int, ...]
    """Sample behind each word."""
    starts: tuple[int, ...]
    phones: tuple[tuple[int, str], ...]
    """Sample where each begins, and its name; the empty name is a pause."""


@dataclass(frozen=True, slots=True)
class _Espeak:
    """The library, and what it reported about the sentence that it is speaking."""

    library: Any
    rate: int
    """Hz."""
    callback: Any
    """Kept, because the library only has its address."""
    audio: list[NDArray[np.int16]]
    words: list[tuple[int, int]]
    """Place in the text, from 1, and first sample of each."""
    phones: list[tuple[int, str]]
    """First sample of each, and its name."""


@lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    import espeakng_loader  # type: ignore[import-not-found]

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    # The folder that holds espeak-ng-data.
    data = str(Path(espeakng_loader.get_data_path()).parent).encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONE_EVENTS)
    if rate <= 0:
        raise RuntimeError("espeak-ng did not start")
    audio: list[NDArray[np.int16]] = []
    words: list[tuple[int, int]] = []
    phones: list[tuple[int, str]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
        n = 0
        while events[n].type != _EVENT_END:
            if events[n].type == _EVENT_WORD:
                words.append((events[n].text_position, events[n].sample))
            elif events[n].type == _EVENT_PHONE:
                phones.append((events[n].sample, bytes(events[n].id.string).decode(errors="replace")))
            n += 1
        return 0

    pointers = ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
    callback = ctypes.CFUNCTYPE(ctypes.c_int, *pointers)(receive)
    library.espeak_SetSynthCallback(callback)
    return _Espeak(library, rate, callback, audio, words, phones)


def speak(words: Sequence[str], voice: Voice, pauses: Sequence[bool] = ()) -> Spoken:
    """Synthesize words as one sentence.

    Args:
        pauses: for each word whether a short pause follows it; empty for none.

    Raises:
        ValueError: there is no such voice.
    """
    espeak = _espeak()
    library = espeak.library
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice.name!r}")
    for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.range), (_GAP, voice.gap)):
        library.espeak_SetParameter(parameter, value, 0)
    text, places = "", []
    for n, word in enumerate(words):
        places.append(len(text) + 1)
        text += word + (", " if pauses and pauses[n] and n + 1 < len(words) else " ")
    for reported in (espeak.audio, espeak.words, espeak.phones):
        reported.clear()
    encoded = text.strip().encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, 1, None, None)
    samples = np.concatenate(espeak.audio).astype(np.float32) / 32768
    # The first event at or behind the place where each word begins.
    starts = [min((sample for at, sample in espeak.words if at >= place), default=len(samples)) for place in places]
    loud = np.flatnonzero(np.abs(samples) > 0.004)
    first, end = (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(samples))
    to = SAMPLE_RATE * voice.stretch / espeak.rate
    audio = soxr.resample(samples[first:end], espeak.rate, SAMPLE_RATE * voice.stretch, quality="MQ")
    begins = [min(len(audio), max(0, int((start - first) * to))) for start in starts]
    phones = tuple((max(0, int((sample - first) * to)), name) for sample, name in espeak.phones)
    return Spoken(audio.astype(np.float32), (*begins[1:], len(audio)), tuple(begins), phones)


def random_voice(random: Generator, language: str, variants: Sequence[str] = VARIANTS) -> Voice:
    accent, variant = random.choice(ACCENTS[language]), random.choice(variants)
    return Voice(
        f"{accent}+{variant}" if variant else str(accent),
        rate=int(random.integers(125, 195)),
        pitch=int(random.integers(25, 75)),
        range=int(random.integers(30, 70)),
        gap=int(random.choice((0, 0, 0, 1, 3, 8))),
        stretch=float(random.uniform(0.94, 1.07)) if random.random() < 0.5 else 1.0,
    )
