"""Endless examples to train on: audio, the prompt, and what the model is to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streaming_asr.core.mel import floor_of, normalize
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context
from streaming_asr.recognizers.vllm.models.mel import LogMel
from tests.vllm.trained.network import BINS
from tests.vllm.trained.sounds import colored, room, sound, telephone
from tests.vllm.trained.synthesis import VARIANTS, random_voice, speak
from tests.vllm.trained.vocabulary import CHINESE, ENGLISH, LANGUAGES, SPELLINGS, written

SHORTEST = SAMPLE_RATE // 2
"""The recognizer pads audio to this many samples."""
LONGEST_WORDS = 14
WORDS = (*ENGLISH, *CHINESE)


@dataclass(frozen=True, slots=True)
class Example:
    features: NDArray[np.float16]
    """Shape ``[BINS, frames]``."""
    context: Context
    language: str | None
    """ISO code; None for no speech."""
    text: str
    forced: bool = False
    """The language is part of the prompt, whatever is spoken."""
    spoken: tuple[tuple[int, int, int], ...] = ()
    """First sample, sample behind the last, and index in `WORDS` of each word."""
    phones: tuple[tuple[int, str], ...] = ()
    """Sample where each begins, and its name."""


def features_of(audio: Audio) -> NDArray[np.float16]:
    """What the recognizer gives the engine for a whole utterance."""
    power = LogMel(BINS)(np.pad(audio, (0, max(0, SHORTEST - len(audio)))))
    return normalize(power, floor_of(power)).astype(np.float16)


def example(random: Generator, variants: Sequence[str] = VARIANTS, clean: bool = False, short: bool = False) -> Example:
    """One example.

    Args:
        variants: of the voices.
        clean: whole sentences in little noise, without context.
        short: of at most three words, with little added.
    """
    if not clean and random.random() < 0.12:
        return _no_speech(random)
    language = str(random.choice(("en", "zh")))
    _, vocabulary = LANGUAGES[language]
    most = 3 if short else LONGEST_WORDS if random.random() < 0.06 and not clean else 6
    words = [str(word) for word in random.choice(vocabulary, random.integers(1, most + 1))]
    if random.random() < 0.03 and not clean:
        words = [words[0]] * len(words)
    pauses = random.random(len(words)) < random.choice((0, 0, 0.3))
    spoken = speak(words, random_voice(random, language, variants), [bool(pause) for pause in pauses])
    audio, said = spoken.audio, len(words)
    cut = not clean and random.random() < 0.35
    if cut:
        # An utterance so far: it ends within a word that is almost over, or has hardly begun.
        said = int(random.integers(1, len(words) + 1))
        begin, end = spoken.starts[said - 1], spoken.ends[said - 1]
        earliest = begin + 0.8 * (end - begin)
        latest = end + (0.2 * (spoken.ends[said] - end) if said < len(words) else 0)
        audio = audio[: max(1, int(random.uniform(earliest, max(earliest + 1, latest))))]
    before = np.zeros(int(random.uniform(0, 0.6) * SAMPLE_RATE), np.float32)
    behind = np.zeros(0 if cut else int(random.uniform(0, 0.8) * SAMPLE_RATE), np.float32)
    audio = _disturbed(random, np.concatenate([before, audio, behind]), clean, short)
    places = tuple(
        (len(before) + start, len(before) + end, WORDS.index(word))
        for start, end, word in zip(spoken.starts[:said], spoken.ends[:said], words, strict=False)
    )
    phones = ((0, ""), *((len(before) + at, name) for at, name in spoken.phones))
    context, words = (Context(), words) if clean else _context(random, words)
    return Example(features_of(audio), context, language, written(language, words[:said]), spoken=places, phones=phones)


def _disturbed(random: Generator, audio: Audio, clean: bool, short: bool) -> Audio:
    audio = audio / (np.sqrt(np.mean(audio**2)) + 1e-6)
    if clean:
        return (0.08 * (audio + 0.01 * colored(random, len(audio)))).astype(np.float32)
    much = 0.3 if short else 1.0
    if random.random() < 0.15 * much:
        audio = room(random, audio)
    if random.random() < 0.6 * much:
        noise = colored(random, len(audio)) if random.random() < 0.7 else sound(random, len(audio))
        audio = audio + noise * 10 ** (-random.uniform(10, 45) / 20)
    if random.random() < 0.2 * much:
        tilt = random.uniform(-0.6, 0.6)
        audio = np.append(audio[:1], audio[1:] - tilt * audio[:-1])
    if random.random() < 0.08 * much:
        audio = telephone(audio)
    audio = audio / (np.sqrt(np.mean(audio**2)) + 1e-6) * 10 ** (-random.uniform(12, 45) / 20)
    audio = np.clip(audio, -1, 1).astype(np.float32)
    return _in_16_bits(audio) if random.random() < 0.8 else audio


def _in_16_bits(audio: Audio) -> Audio:
    rounded: Audio = (np.round(np.clip(audio, -1, 1) * 32767) / 32768).astype(np.float32)
    return rounded


def _no_speech(random: Generator) -> Example:
    samples = int(random.uniform(0.4, 5) * SAMPLE_RATE)
    audio = _in_16_bits(sound(random, samples) * np.float32(10 ** (-random.uniform(12, 70) / 20)))
    # Digital silence never reaches the model.
    audio[0] += 1e-4
    context, _ = _context(random, [])
    if random.random() < 0.25:
        return Example(features_of(audio), context, str(random.choice(("en", "zh"))), "", forced=True)
    return Example(features_of(audio), context, None, "")


def _context(random: Generator, words: list[str]) -> tuple[Context, list[str]]:
    """A context, and the words as they are spelled with it."""
    names = [word for word in words if word in SPELLINGS]
    if random.random() > (0.7 if names else 0.35):
        return Context(), words
    keywords = [str(word) for word in random.choice((*ENGLISH, *CHINESE, *SPELLINGS.values()), random.integers(0, 4))]
    keywords += ["".join(chr(97 + n) for n in random.integers(0, 26, random.integers(2, 9)))] * bool(random.integers(2))
    keywords += [SPELLINGS[name] if random.random() < 0.75 else name for name in sorted(set(names))]
    # One spelling of each name.
    for name, other in SPELLINGS.items():
        if name in keywords and other in keywords:
            keywords = [word for word in keywords if word != name]
    random.shuffle(keywords)
    spelled = [SPELLINGS[word] if SPELLINGS.get(word) in keywords else word for word in words]
    language = str(random.choice(("en", "zh")))
    ordinary = [word for word in LANGUAGES[language][1] if word not in SPELLINGS]
    previous = [str(word) for word in random.choice(ordinary, random.integers(1, 8))]
    text = " ".join(str(word) for word in random.choice(ordinary, random.integers(1, 4)))
    return (
        Context(
            text=text if random.random() < 0.3 else "",
            keywords=tuple(dict.fromkeys(keywords)),
            previous=written(language, previous) if random.random() < 0.4 else "",
        ),
        spelled,
    )
