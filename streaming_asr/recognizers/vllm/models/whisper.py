"""Whisper under vLLM (CUDA and CPU): 30 s of audio at a time, encoded anew for each decode."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from transformers.models.whisper.tokenization_whisper import LANGUAGES

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context, Cost, DecodeFailed, DecodeJob, Hypothesis, Kind
from streaming_asr.recognizers.common.repetition import collapse, find_loop
from streaming_asr.recognizers.common.token_text import TokenText
from streaming_asr.recognizers.vllm.models.base import Request, Run

WINDOW_S = 30.0
POSITIONS = 448
"""Decoder positions: prompt, text and end together."""
LONGEST_CONTEXT = POSITIONS // 2 - 1
"""Tokens of context before the transcript."""
TOKENS_PER_S = 10
"""More English than anybody speaks; what is longer is a loop."""
TOKENS_PER_S_ANY_LANGUAGE = 20
"""Scripts that the vocabulary spells byte by byte need more."""
SPARE_TOKENS = 16
ENGLISH_ONLY_END = 50256
"""Id of the end token in the English-only vocabulary, which is one token shorter than the others."""
MAX_UTTERANCES = 4096
"""Utterances whose language is remembered. The oldest go, should `release` be forgotten."""


class Whisper:
    """The model's side of a recognizer.

    Args:
        tokenizer: Transformers' tokenizer of the checkpoint.

    Raises:
        ValueError: the tokenizer is not a Whisper's; the message says what is missing.
    """

    max_audio_s = WINDOW_S

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._end = self._special("<|endoftext|>")
        self._transcript = self._special("<|startoftranscript|>")
        self._earlier = self._special("<|startofprev|>")
        self._no_timestamps = self._special("<|notimestamps|>")
        self._text = TokenText(tokenizer.convert_ids_to_tokens)
        codes = [code for code in LANGUAGES if f"<|{code}|>" in self._vocabulary]
        self.languages: tuple[str, ...] = ("en",) if self._end == ENGLISH_ONLY_END else tuple(codes)
        self._heard: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Language and probability that were detected last for each utterance."""

    async def decode(self, job: DecodeJob, run: Run) -> Hypothesis:
        seconds = len(job.audio) / SAMPLE_RATE
        if seconds > WINDOW_S:
            raise DecodeFailed(f"Whisper takes at most {WINDOW_S:.0f} s of audio; the utterance has {seconds:.1f} s.")
        if job.language is not None and job.language not in self.languages:
            raise DecodeFailed(
                f"The model does not know the language {job.language!r}, only {', '.join(self.languages)}."
            )
        if not job.audio.any():
            return Hypothesis(language=job.language, no_speech=1.0, cost=Cost(decodes=0))
        language, probability = job.language or self.languages[0], None
        decodes = 1
        if job.language is None and len(self.languages) > 1:
            if job.kind is not Kind.PARTIAL or job.utterance not in self._heard:
                self._remember(job.utterance, await self._detect(job, run))
                decodes += 1
            language, probability = self._heard[job.utterance]
        hypothesis = await self._generate(job, language, probability, job.prefix, decodes, run)
        if job.prefix and (not hypothesis.complete or find_loop(hypothesis.tokens)):
            hypothesis = await self._generate(job, language, probability, (), decodes + 1, run)
        return hypothesis

    def release(self, utterance: str) -> None:
        self._heard.pop(utterance, None)

    def close(self) -> None:
        """Nothing runs here."""

    async def _detect(self, job: DecodeJob, run: Run) -> tuple[str, float]:
        choices = {self._special(f"<|{code}|>"): code for code in self.languages}
        completion = await run(Request(_prompt(job.audio, [self._transcript]), 1, tuple(choices)))
        return choices[completion.tokens[0]], math.exp(min(0.0, completion.logprobs[0]))

    def _remember(self, utterance: str, heard: tuple[str, float]) -> None:
        if len(self._heard) >= MAX_UTTERANCES:
            self._heard.popitem(last=False)
        self._heard[utterance] = heard

    async def _generate(
        self,
        job: DecodeJob,
        language: str,
        probability: float | None,
        prefix: tuple[int, ...],
        decodes: int,
        run: Run,
    ) -> Hypothesis:
        context = self._context(job.context)
        start = [self._earlier, *context] if context else []
        start += [*self._start_of(language), self._no_timestamps, *prefix]
        rate = TOKENS_PER_S if language == "en" else TOKENS_PER_S_ANY_LANGUAGE
        seconds = len(job.audio) / SAMPLE_RATE
        wanted = SPARE_TOKENS + max(0, math.ceil(rate * seconds) - len(prefix))
        completion = await run(Request(_prompt(job.audio, start), min(wanted, POSITIONS - len(start))))
        said = [n for n, token in enumerate(completion.tokens) if token < self._end]
        tokens = [*prefix, *(completion.tokens[n] for n in said)]
        kept = collapse(tokens)
        logprobs = [completion.logprobs[n] for n in said]
        return Hypothesis(
            tokens=tuple(tokens[n] for n in kept),
            pieces=self._text.pieces(tokens[n] for n in kept),
            language=language,
            language_probability=probability,
            complete=completion.complete,
            confidence=math.fsum(map(math.exp, logprobs)) / len(logprobs) if logprobs else None,
            # A forced prefix has none.
            logprobs=None if prefix else tuple(logprobs[n] for n in kept),
            cost=Cost(
                encode_s=completion.prefill_s,
                decode_s=completion.decode_s,
                audio_s=WINDOW_S * decodes,
                prompt_tokens=completion.prompt_tokens,
                cached_tokens=completion.cached_tokens,
                generated_tokens=len(completion.tokens),
                decodes=decodes,
            ),
        )

    def _context(self, context: Context) -> list[int]:
        """Tokens before the transcript, the latest last."""
        words = " ".join(filter(None, (context.text, ", ".join(context.keywords), context.previous))).strip()
        ids: Sequence[int] = self._tokenizer.encode(f" {words}", add_special_tokens=False) if words else ()
        # The text may spell a special token.
        return [token for token in ids if token < self._end][-LONGEST_CONTEXT:]

    def _start_of(self, language: str) -> list[int]:
        # English-only models know neither language nor task, and read their tokens as noise.
        if len(self.languages) == 1:
            return [self._transcript]
        return [self._transcript, self._special(f"<|{language}|>"), self._special("<|transcribe|>")]

    def _special(self, token: str) -> int:
        if token not in self._vocabulary:
            raise ValueError(f"its tokenizer has no {token}")
        return self._vocabulary[token]


def _prompt(audio: Audio, decoder: Sequence[int]) -> dict[str, Any]:
    """vLLM's prompt. The audio is at the encoder's rate already, so that vLLM need not resample it."""
    return {
        "encoder_prompt": {"prompt": "", "multi_modal_data": {"audio": (audio, SAMPLE_RATE)}},
        "decoder_prompt": {"prompt_token_ids": list(decoder)},
    }
