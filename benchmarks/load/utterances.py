"""Clips cut into the chunks that a client sends, ready before the run begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import soxr

from benchmarks.common.measures.emission import TimedWord
from benchmarks.common.speech import Clip
from benchmarks.common.word_times import Timed
from benchmarks.load.pipecat_stops import stops
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio


@dataclass(frozen=True, slots=True)
class Chunk:
    pcm: bytes
    """16 bit little-endian mono."""
    end_s: float
    """Where it ends in the audio: then its last sample has been spoken."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one session sends; shared by all sessions that speak it."""

    clip: Clip
    speech: tuple[Chunk, ...]
    """The clip itself."""
    silence: tuple[Chunk, ...]
    """What follows it, so that a server that waits for silence ends the last utterance."""
    words: tuple[TimedWord, ...] = ()
    """When each is spoken, where that is known."""
    stops_s: tuple[float, ...] = ()
    """Where the client finalizes because its own voice detection found an end of speech; empty if it has none."""

    @property
    def speech_s(self) -> float:
        return self.speech[-1].end_s

    @property
    def duration_s(self) -> float:
        return (self.silence or self.speech)[-1].end_s


def cut(
    clips: Iterable[Clip],
    *,
    rate: int,
    chunk_ms: int,
    trailing_s: float,
    words: Timed | None = None,
    with_stops: bool = False,
) -> list[Utterance]:
    """Read and cut clips; those without a single sample are left out.

    Args:
        rate: Hz of the PCM.
        chunk_ms: of every chunk but the last of the speech and the last of the silence.
        trailing_s: of digital silence.
        words: of clips, by id; else what the clips themselves know.
        with_stops: find out where Pipecat's voice detection finalizes.

    Raises:
        NoSpeech: a file can't be read.
    """
    found = []
    for clip in clips:
        if len(audio := clip.audio()):
            known = (words or {}).get(clip.id, clip.words)
            utterance = utterance_of(clip, audio, rate=rate, chunk_ms=chunk_ms, trailing_s=trailing_s, words=known)
            if with_stops:
                silence = np.zeros(round(trailing_s * SAMPLE_RATE), np.float32)
                utterance = replace(utterance, stops_s=stops(np.concatenate([audio, silence])))
            found.append(utterance)
    return found


def utterance_of(
    clip: Clip, audio: Audio, *, rate: int, chunk_ms: int, trailing_s: float, words: tuple[TimedWord, ...] = ()
) -> Utterance:
    """Cut one recording; the arguments are as of `cut`.

    Args:
        clip: whose recording it is.
        audio: 16 kHz, shape ``[n]``, not empty.
    """
    size = max(1, rate * chunk_ms // 1000)
    if rate != SAMPLE_RATE:
        audio = soxr.resample(audio, SAMPLE_RATE, rate)
    pcm = (audio.clip(-1, 1) * 32767).astype("<i2")
    silence = np.zeros(round(trailing_s * rate), "<i2")
    speech = tuple(_chunks(pcm.tobytes(), size, rate, 0))
    after = tuple(_chunks(silence.tobytes(), size, rate, len(pcm)))
    return Utterance(clip, speech, after, words)


def _chunks(pcm: bytes, size: int, rate: int, start: int) -> Iterable[Chunk]:
    """16-bit audio in chunks, each with the time of its end.

    Args:
        size, start: samples.
    """
    for begin in range(0, len(pcm), 2 * size):
        piece = pcm[begin : begin + 2 * size]
        yield Chunk(piece, (start + (begin + len(piece)) // 2) / rate)
