"""Whisper under vLLM (CUDA and CPU): 30 s of audio at a time, encoded anew for each decode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers.models.whisper.tokenization_whisper import LANGUAGES

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Cost, DecodeJob, Hypothesis, plain_text
from streaming_asr.recognizers.common import guards
from streaming_asr.recognizers.common.token_text import TokenText
from streaming_asr.recognizers.vllm.models.base import AskWorkers, Completion, ModelType, Request, Run, Verdict
from streaming_asr.recognizers.whisper.prompt import (
    GUARDS,
    POSITIONS,
    SHORTEST_S,
    WINDOW_S,
    WhisperPrompt,
    check,
    longest_text,
)


class Whisper:
    """The model's side of a recognizer.

    Args:
        tokenizer: Transformers' tokenizer of the checkpoint.

    Raises:
        ValueError: the tokenizer is not a Whisper's; the message says what is missing.
    """

    max_audio_s = WINDOW_S
    writes_figures = True

    def __init__(self, tokenizer: Any) -> None:
        self._prompt = WhisperPrompt(
            tokenizer.get_vocab().get, lambda text: tokenizer.encode(text, add_special_tokens=False), LANGUAGES
        )
        self._text = TokenText(tokenizer.convert_ids_to_tokens)

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes that the model knows."""
        return self._prompt.languages

    def raw_answer(self, text: str, language: str | None) -> str:
        return plain_text(text, language)

    async def decode(self, job: DecodeJob, run: Run) -> Hypothesis:
        check(job, self.languages)
        if guards.is_silent(job.audio, SHORTEST_S):
            return Hypothesis(language=job.language, no_speech=1.0, cost=Cost(decodes=0))
        language, probability = job.language or self.languages[0], None
        decodes = 0
        if job.language is None and len(self.languages) > 1:
            language, probability = await self._detect(job, run)
            decodes += 1
        # As long as the text loops: once more without the prefix, then without the context.
        context = self._prompt.context(job.context)
        draft = await self._generate(job, language, context, job.prefix, run)
        decodes += 1
        if draft.loops and job.prefix:
            draft = await self._generate(job, language, context, (), run)
            decodes += 1
        if draft.loops and context:
            draft = await self._generate(job, language, (), (), run)
            decodes += 1
        return self._hypothesis(job, draft, language, probability, decodes)

    async def check(self, run: Run, ask_workers: AskWorkers, dtype: str) -> Verdict | None:
        return None

    def release(self, utterance: str) -> None:
        """Nothing is held between jobs."""

    def close(self) -> None:
        """Nothing to stop."""

    async def _detect(self, job: DecodeJob, run: Run) -> tuple[str, float]:
        choices = {self._prompt.language(code): code for code in self.languages}
        completion = await run(Request(_request_prompt(job.audio, [self._prompt.transcript]), 1, tuple(choices)))
        return choices[completion.tokens[0]], math.exp(min(0.0, completion.logprobs[0]))

    async def _generate(
        self, job: DecodeJob, language: str, context: Sequence[int], prefix: tuple[int, ...], run: Run
    ) -> _Draft:
        start = [*self._prompt.start(language, context), *prefix]
        wanted = longest_text(language, len(job.audio) / SAMPLE_RATE, len(prefix)) - len(prefix)
        completion = await run(Request(_request_prompt(job.audio, start), min(wanted, POSITIONS - len(start))))
        text = [n for n, token in enumerate(completion.tokens) if self._prompt.is_text(token)]
        return _Draft(
            tokens=(*prefix, *(completion.tokens[n] for n in text)),
            logprobs=tuple(completion.logprobs[n] for n in text),
            prefix=len(prefix),
            completion=completion,
        )

    def _hypothesis(
        self, job: DecodeJob, draft: _Draft, language: str, probability: float | None, decodes: int
    ) -> Hypothesis:
        completion, logprobs = draft.completion, draft.logprobs
        kept = guards.kept(guards.Draft(draft.tokens, completion.complete, len(job.audio) / SAMPLE_RATE), GUARDS)
        return Hypothesis(
            tokens=tuple(draft.tokens[n] for n in kept),
            pieces=self._text.pieces(draft.tokens[n] for n in kept),
            language=language,
            language_probability=probability,
            complete=completion.complete,
            confidence=math.fsum(map(math.exp, logprobs)) / len(logprobs) if logprobs else None,
            # A forced prefix has none.
            logprobs=None if draft.prefix else tuple(logprobs[n] for n in kept),
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


@dataclass(frozen=True, slots=True)
class _Draft:
    """The text of one request."""

    tokens: tuple[int, ...]
    """Text only, the forced prefix included."""
    logprobs: tuple[float, ...]
    """Of the tokens after the prefix."""
    prefix: int
    """Tokens of the forced prefix."""
    completion: Completion

    @property
    def loops(self) -> bool:
        return guards.loops(self.tokens, self.completion.complete)


def _request_prompt(audio: Audio, decoder: Sequence[int]) -> dict[str, Any]:
    """vLLM's prompt. The audio is at the encoder's rate already, so that vLLM need not resample it."""
    return {
        "encoder_prompt": {"prompt": "", "multi_modal_data": {"audio": (audio, SAMPLE_RATE)}},
        "decoder_prompt": {"prompt_token_ids": list(decoder)},
    }


async def load_whisper(config: Mapping[str, Any], llm: Any) -> Whisper:
    """Fit the model's side to a running engine; see `ModelType.load`."""
    return Whisper(llm.renderer.tokenizer)


MODEL_TYPE = ModelType(load_whisper, {"mm_processor_cache_gb": 0, "scheduling_policy": "priority"})
