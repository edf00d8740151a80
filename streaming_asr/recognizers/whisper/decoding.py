"""From a decode job to a hypothesis with Whisper: how much to encode, when to try again, when there was no speech."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streaming_asr.core.recognizer import SAMPLE_RATE, Cost, DecodeFailed, DecodeJob, Hypothesis, Kind, Word
from streaming_asr.recognizers.common.repetition import collapse, find_loop
from streaming_asr.recognizers.whisper.word_times import token_starts, words_of

if TYPE_CHECKING:  # It needs CTranslate2, whose absence is told when a recognizer starts.
    from streaming_asr.recognizers.whisper.model import CTranslate2Whisper, Draft, Encoding

WINDOW_S = 30.0
"""Audio that Whisper was trained on, and the most that it takes."""
SHORTEST_S = 0.1
"""Audio below this holds no word; it is not decoded."""
SILENCE_NO_SPEECH = 0.6
SILENCE_LOGPROB = -1.0
"""Whisper's rule: a higher probability of no speech with a lower mean log-probability makes an empty text."""
TOKENS_PER_S = 10
"""More English than anybody speaks; what is longer is a loop."""
TOKENS_PER_S_ANY_LANGUAGE = 20
"""Scripts that the vocabulary spells byte by byte need more."""
SPARE_TOKENS = 16
PLAUSIBLE_TOKENS_PER_S = 6
"""Fast speech. A text that still repeats itself after the last attempt is believed up to here."""


class Cancelled(Exception):
    """Nobody wants the result any more."""


@dataclass(frozen=True, slots=True)
class Padding:
    """How much the encoder gets, where Whisper's own way is 30 s always. What is missing is silence."""

    floor_s: float
    """Seconds in all, at least."""
    tail_s: float
    """Seconds of silence after the speech, at least. Without it the text loops more often than not."""

    def length_s(self, audio_s: float) -> float:
        """Seconds that the encoder gets for so many of audio."""
        return min(WINDOW_S, max(self.floor_s, audio_s + self.tail_s))


@dataclass(frozen=True, slots=True)
class Options:
    """How to decode. The paddings are chosen by ``benchmarks/encoder_floor.py``; docs/embedded.md has its table."""

    partial: Padding = Padding(floor_s=12, tail_s=3)
    final: Padding = Padding(floor_s=15, tail_s=6)
    beam_size: int = 5
    """Hypotheses that a final keeps in sight; partials keep one."""


def decode(
    whisper: CTranslate2Whisper, options: Options, job: DecodeJob, cancelled: Callable[[], bool] = lambda: False
) -> Hypothesis:
    """Decode `job`, which blocks.

    Args:
        cancelled: asked between the steps.

    Raises:
        DecodeFailed: the audio is too long, or the language unknown.
        Cancelled: `cancelled` said so.
    """
    seconds = len(job.audio) / SAMPLE_RATE
    if seconds > WINDOW_S:
        raise DecodeFailed(f"Whisper takes at most {WINDOW_S:.0f} s of audio; the utterance has {seconds:.1f} s.")
    if job.language is not None and job.language not in whisper.languages:
        known = ", ".join(whisper.languages)
        raise DecodeFailed(f"The model does not know the language {job.language!r}, only {known}.")
    if seconds < SHORTEST_S or not job.audio.any():
        return Hypothesis(language=job.language, no_speech=1.0, cost=Cost(decodes=0))
    return _Decoding(whisper, options, job, cancelled).run()


class _Decoding:
    """One job on its way to a hypothesis."""

    def __init__(
        self, whisper: CTranslate2Whisper, options: Options, job: DecodeJob, cancelled: Callable[[], bool]
    ) -> None:
        self._whisper = whisper
        self._job = job
        self._cancelled = cancelled
        self._seconds = len(job.audio) / SAMPLE_RATE
        partial = job.kind is Kind.PARTIAL
        self._length_s = (options.partial if partial else options.final).length_s(self._seconds)
        self._beam_size = 1 if partial else options.beam_size
        self._encode_s = 0.0
        self._encoded_audio_s = 0.0
        self._decodes = 0
        self._generated = 0
        self._begun = time.perf_counter()
        self._features = whisper.features(job.audio)
        self._encoding = self._encode(self._length_s)
        self._language, self._language_probability = job.language or "", None
        if job.language is None:
            self._language, self._language_probability = whisper.detect_language(self._encoding)

    def run(self) -> Hypothesis:
        draft = self._draft()
        kept = self._kept(draft)
        tokens = tuple(draft.tokens[n] for n in kept)
        pieces = self._whisper.text.pieces(tokens)
        words = self._words(tokens, pieces) if self._job.word_times else None
        return Hypothesis(
            tokens=tokens,
            pieces=pieces,
            language=self._language,
            language_probability=self._language_probability,
            complete=draft.complete,
            confidence=math.exp(min(0.0, draft.mean_logprob)),
            logprobs=tuple(draft.logprobs[n] for n in kept) if draft.logprobs is not None else None,
            no_speech=draft.no_speech,
            words=words,
            cost=Cost(
                encode_s=self._encode_s,
                decode_s=time.perf_counter() - self._begun - self._encode_s,
                audio_s=self._encoded_audio_s,
                prompt_tokens=draft.prompt_tokens,
                generated_tokens=self._generated,
                decodes=self._decodes,
            ),
        )

    def _draft(self) -> Draft:
        """Decode; as long as the text loops, once more without the prefix, then as Whisper was trained to."""
        context = self._whisper.context_tokens(self._job.context)
        draft = self._generate(context, self._job.prefix)
        if _loops(draft) and self._job.prefix:
            draft = self._generate(context)
        if _loops(draft) and (self._length_s < WINDOW_S or context):
            if self._length_s < WINDOW_S:
                self._encoding = self._encode(WINDOW_S)
            draft = self._generate()
        return draft

    def _kept(self, draft: Draft) -> list[int]:
        """Indices of the tokens that are an answer: none where there was no speech, each loop once."""
        if draft.no_speech > SILENCE_NO_SPEECH and draft.mean_logprob < SILENCE_LOGPROB:
            return []
        # Who does say the same word a dozen times takes a while for it.
        if draft.complete and len(draft.tokens) <= PLAUSIBLE_TOKENS_PER_S * self._seconds:
            return list(range(len(draft.tokens)))
        return collapse(draft.tokens)

    def _encode(self, seconds: float) -> Encoding:
        self._check()
        begun = time.perf_counter()
        encoding = self._whisper.encode(self._features, seconds)
        self._encode_s += time.perf_counter() - begun
        self._encoded_audio_s += seconds
        return encoding

    def _generate(self, context: Sequence[int] = (), prefix: Sequence[int] = ()) -> Draft:
        self._check()
        rate = TOKENS_PER_S if self._language == "en" else TOKENS_PER_S_ANY_LANGUAGE
        draft = self._whisper.generate(
            self._encoding,
            language=self._language,
            context=context,
            prefix=prefix,
            max_tokens=max(len(prefix), math.ceil(rate * self._seconds)) + SPARE_TOKENS,
            beam_size=self._beam_size,
        )
        self._decodes += 1
        self._generated += len(draft.tokens) - len(prefix)
        return draft

    def _words(self, tokens: Sequence[int], pieces: Sequence[str]) -> tuple[Word, ...]:
        if not tokens:
            return ()
        self._check()
        alignment, probabilities = self._whisper.align(
            self._encoding, tokens, language=self._language, frames=self._features.shape[1]
        )
        return words_of(
            pieces,
            token_starts(alignment),
            probabilities,
            language=self._language,
            audio_ms=int(1000 * self._seconds),
        )

    def _check(self) -> None:
        if self._cancelled():
            raise Cancelled


def _loops(draft: Draft) -> bool:
    return not draft.complete or find_loop(draft.tokens) is not None
