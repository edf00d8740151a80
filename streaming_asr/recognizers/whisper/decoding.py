"""From a decode job to a hypothesis with Whisper: how much to encode, when to try again, when there was no speech."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streaming_asr.core.language_lock import LONGEST_DOUBT_MS
from streaming_asr.core.recognizer import SAMPLE_RATE, Cost, DecodeJob, Hypothesis, Kind, Word
from streaming_asr.recognizers.common import guards
from streaming_asr.recognizers.whisper.chinese import simplified
from streaming_asr.recognizers.whisper.prompt import GUARDS, SHORTEST_S, WINDOW_S, check, longest_text
from streaming_asr.recognizers.whisper.word_times import token_starts, words_of

if TYPE_CHECKING:  # It needs CTranslate2, whose absence is reported when a recognizer starts.
    from streaming_asr.recognizers.whisper.model import CTranslate2Whisper, Draft, Encoding

UNSURE_BELOW = 0.6
"""Mean token probability below which a partial in a language other than English is mostly wrong with Whisper base, and
often in a wrong language. English ones are mostly right even there. docs/embedded.md has the figures."""
UNLIKELY_BELOW = 0.5
"""Mean token probability below which a text that is not English is also decoded in the second likeliest language."""
MUCH_SURER = 1.5
"""How many times the mean token probability of an unlikely final the other language must reach to be taken instead.
Without it, noisy Spanish would become Portuguese."""


class Cancelled(Exception):
    """The result is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Padding:
    """How much the encoder gets, where Whisper's own way is 30 s always. What is missing is silence."""

    floor_s: float
    """Seconds in all, at least."""
    tail_s: float
    """Seconds of silence after the speech, at least. Without it the text loops more often than not."""

    def length_s(self, audio_s: float) -> float:
        """Seconds that the encoder gets for `audio_s` seconds of audio."""
        return min(WINDOW_S, max(self.floor_s, audio_s + self.tail_s))


@dataclass(frozen=True, slots=True)
class Options:
    """How to decode. ``benchmarks/studies/encoder_floor.py`` chose the paddings; docs/embedded.md has its table."""

    partial: Padding = Padding(floor_s=12, tail_s=3)
    final: Padding = Padding(floor_s=15, tail_s=6)
    beam_size: int = 5
    """Hypotheses that a final keeps in sight; partials keep one."""


def decode(
    whisper: CTranslate2Whisper, options: Options, job: DecodeJob, cancelled: Callable[[], bool] = lambda: False
) -> Hypothesis:
    """Decode `job`, which blocks.

    Args:
        cancelled: called between the steps; True gives the job up.

    Raises:
        DecodeFailed: the audio is too long, or the language unknown.
        Cancelled: `cancelled` returned True.
    """
    check(job, whisper.languages)
    if guards.is_silent(job.audio, SHORTEST_S):
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
        self._language = job.language or ""
        self._language_probability: float | None = None
        self._next_language: tuple[str, float] | None = None
        """The second likeliest, where the language was detected."""
        if job.language is None:
            (self._language, self._language_probability), *others = whisper.detect_languages(self._encoding)
            self._next_language = others[0] if others else None

    def run(self) -> Hypothesis:
        draft = self._draft()
        kept = self._kept(draft)
        if kept and self._may_change_language and self._below(UNLIKELY_BELOW, draft):
            draft = self._in_surer_language(draft)
            kept = self._kept(draft)
        tokens = tuple(draft.tokens[n] for n in kept)
        pieces = self._whisper.text.pieces(tokens)
        if self._language == "zh":
            pieces = simplified(pieces)
        words = self._words(tokens, pieces) if self._job.word_times else None
        return Hypothesis(
            tokens=tokens,
            pieces=pieces,
            language=self._language,
            language_probability=self._language_probability,
            complete=draft.complete,
            confidence=_confidence(draft),
            unsure=self._below(UNSURE_BELOW, draft) or (self._language != "en" and _loops(draft)),
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
        context = self._whisper.prompt.context(self._job.context)
        draft = self._generate(context, self._job.prefix)
        if _loops(draft) and self._job.prefix:
            draft = self._generate(context)
        if _loops(draft) and (self._length_s < WINDOW_S or context):
            if self._length_s < WINDOW_S:
                self._encoding = self._encode(WINDOW_S)
            draft = self._generate()
        return draft

    @property
    def _may_change_language(self) -> bool:
        """A partial of less speech settles no language, so a second decode of it would be for nothing."""
        return self._job.kind is not Kind.PARTIAL or 1000 * self._seconds >= LONGEST_DOUBT_MS

    def _below(self, bound: float, draft: Draft) -> bool:
        """Whether the text is not English and its mean token probability below a bound."""
        return self._language != "en" and _confidence(draft) < bound

    def _in_surer_language(self, draft: Draft) -> Draft:
        """The text in the second likeliest language, if the model is much surer of that; else `draft`."""
        if self._next_language is None:
            return draft
        detected, (self._language, probability) = self._language, self._next_language
        other = self._draft()
        if self._kept(other) and _confidence(other) >= MUCH_SURER * _confidence(draft):
            self._language_probability = probability
            return other
        self._language = detected
        return draft

    def _kept(self, draft: Draft) -> list[int]:
        """Indices of the tokens that the guards keep."""
        return guards.kept(
            guards.Draft(draft.tokens, draft.complete, self._seconds, draft.mean_logprob, draft.no_speech), GUARDS
        )

    def _encode(self, seconds: float) -> Encoding:
        self._check()
        begun = time.perf_counter()
        encoding = self._whisper.encode(self._features, seconds)
        self._encode_s += time.perf_counter() - begun
        self._encoded_audio_s += seconds
        return encoding

    def _generate(self, context: Sequence[int] = (), prefix: Sequence[int] = ()) -> Draft:
        self._check()
        draft = self._whisper.generate(
            self._encoding,
            language=self._language,
            context=context,
            prefix=prefix,
            max_tokens=longest_text(self._language, self._seconds, len(prefix)),
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
        return words_of(pieces, token_starts(alignment), probabilities, audio_ms=int(1000 * self._seconds))

    def _check(self) -> None:
        if self._cancelled():
            raise Cancelled


def _confidence(draft: Draft) -> float:
    """Mean token probability, 0..1."""
    return math.exp(min(0.0, draft.mean_logprob))


def _loops(draft: Draft) -> bool:
    return guards.loops(draft.tokens, draft.complete)
