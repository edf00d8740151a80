"""Qwen3-ASR (arXiv 2601.21337) under vLLM: from a decode job to requests, and from their answers to a hypothesis."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Context, Cost, DecodeFailed, DecodeJob, Hypothesis, Kind
from streaming_asr.recognizers.common import guards
from streaming_asr.recognizers.common.token_text import TokenText
from streaming_asr.recognizers.vllm.device import Device
from streaming_asr.recognizers.vllm.models.base import AskWorkers, Completion, ModelType, Request, Run, Verdict
from streaming_asr.recognizers.vllm.models.mel import FRAMES_PER_S
from streaming_asr.recognizers.vllm.models.qwen3_audio import (
    AudioInput,
    Form,
    Geometry,
    UtteranceAudio,
    audio_tokens,
    choose_form,
    prompt_of,
)
from streaming_asr.recognizers.vllm.models.qwen3_check import check_windows
from streaming_asr.recognizers.vllm.models.qwen3_languages import NAME_OF
from streaming_asr.recognizers.vllm.models.qwen3_prompt import TEXT_TAG, Answer, Qwen3Prompt
from streaming_asr.recognizers.vllm.self_check import WORKER_EXTENSION

logger = logging.getLogger(__name__)

SHORTEST_SAMPLES = SAMPLE_RATE // 2
"""Shorter audio is padded with silence, as Qwen's own package does."""
MAX_ITEMS = 32
"""Audio items of one request; the engine gets it as its limit."""
MAX_UTTERANCES = 4096
"""Utterances that are remembered. The oldest go, should `release` be forgotten."""
TOKENS_PER_S = 25
"""More than anybody speaks, in any script; what is longer is a loop."""
SPARE_TOKENS = 32
"""For ``language English<asr_text>`` and very short audio."""
TEXT_SHARE = 0.5
"""Of the engine's positions, what the longest utterance leaves to context and text."""
MAX_CONTEXT = 1024
"""Tokens of context at most, a quarter of the positions where these are few."""
MEL_THREADS = 2
ASCEND_POSITIONS = 4096
"""vLLM would take all 65,536 of the checkpoint. This is what vllm-ascend's tutorial and its nightly test have."""

GUARDS = (guards.Repetition(),)


@dataclass(slots=True)
class _Utterance:
    audio: UtteranceAudio
    language: str | None = None
    """As the model detected it last: what a forced prefix needs before it."""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = ()
    """Of the latest hypothesis; a forced prefix has its log-probabilities from here."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """The text of one request."""

    language: str | None
    """That was forced."""
    prefix: tuple[int, ...]
    """That was forced."""
    text: tuple[int, ...]
    """Tokens of text after the prefix."""
    logprobs: tuple[float, ...]
    """Of `text`."""
    answer: Answer
    completion: Completion


class Qwen3ASR:
    """The model's side of a recognizer.

    Args:
        geometry: of the checkpoint's encoder.
        max_model_len: positions of the engine.
        form: how audio is handed over; all but `Form.WHOLE` need a geometry with a window.
        max_items: audio items of one request that the engine takes.
    """

    writes_figures = False
    """Its users report that it writes numbers as words."""

    def __init__(
        self, prompt: Qwen3Prompt, geometry: Geometry, *, max_model_len: int, form: Form, max_items: int = MAX_ITEMS
    ) -> None:
        self.form = form
        self.languages = tuple(NAME_OF)
        self._max_items = max_items
        self._prompt = prompt
        self._geometry = geometry
        self._max_model_len = max_model_len
        self._text = TokenText(prompt.symbol)
        self._utterances: OrderedDict[str, _Utterance] = OrderedDict()
        self._threads = ThreadPoolExecutor(MEL_THREADS, thread_name_prefix="mel")

    @property
    def max_audio_s(self) -> float:
        """Longest utterance it takes whole, seconds."""
        seconds = TEXT_SHARE * self._max_model_len / audio_tokens(FRAMES_PER_S)
        if self.form is not Form.WHOLE:
            seconds = min(seconds, self._max_items * self._geometry.window / FRAMES_PER_S)
        return float(math.floor(seconds))

    def raw_answer(self, text: str, language: str | None) -> str:
        return f"language {NAME_OF.get(language or '', 'None')}{TEXT_TAG}{text}"

    async def decode(self, job: DecodeJob, run: Run) -> Hypothesis:
        seconds = len(job.audio) / SAMPLE_RATE
        if seconds > self.max_audio_s:
            raise DecodeFailed(
                f"The engine takes at most {self.max_audio_s:.0f} s of audio; the utterance has {seconds:.1f} s."
            )
        if job.language is not None and job.language not in NAME_OF:
            raise DecodeFailed(f"The model does not know the language {job.language!r}, only {', '.join(NAME_OF)}.")
        if guards.is_silent(job.audio):
            return Hypothesis(language=job.language, no_speech=1.0, cost=Cost(decodes=0))
        utterance = self._utterance(job.utterance)
        samples = np.pad(job.audio, (0, max(0, SHORTEST_SAMPLES - len(job.audio))))
        exact = job.kind is not Kind.PARTIAL
        audio = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: utterance.audio.input(samples, exact=exact)
        )
        language = job.language or utterance.language
        # Without a language before it, a prefix would be read as one.
        prefix = job.prefix if language is not None else ()
        draft = await self._generate(job, audio, language if prefix else job.language, prefix, run)
        decodes = 1
        if prefix and guards.loops((*prefix, *draft.text), draft.completion.complete):
            draft = await self._generate(job, audio, job.language, (), run)
            decodes = 2
        hypothesis = self._hypothesis(utterance, audio, draft, decodes)
        utterance.language = hypothesis.language
        utterance.tokens, utterance.logprobs = hypothesis.tokens, hypothesis.logprobs
        return hypothesis

    async def check(self, run: Run, ask_workers: AskWorkers, dtype: str) -> Verdict | None:
        """As `SpeechModel.check`: a device on which windows do not give what whole audio gives is used without them."""
        if self.form is Form.WHOLE:
            return None
        verdict = await check_windows(self._prompt, self._geometry, self.form, run, ask_workers, dtype)
        if verdict.works is False:
            self.form = Form.WHOLE
        return verdict

    def release(self, utterance: str) -> None:
        self._utterances.pop(utterance, None)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _generate(
        self, job: DecodeJob, audio: AudioInput, language: str | None, prefix: tuple[int, ...], run: Run
    ) -> _Draft:
        ids = self._prompt.ids(len(audio.frames), job.context, language, prefix)
        positions = len(ids) - len(audio.frames) + audio.tokens
        speech = math.ceil(TOKENS_PER_S * sum(audio.frames) / FRAMES_PER_S)
        room = self._max_model_len - positions
        if room <= 0:
            raise DecodeFailed(
                f"The prompt has {positions} positions; --max-model-len {self._max_model_len} leaves none for the text."
            )
        completion = await run(Request(prompt_of(ids, audio), min(room, SPARE_TOKENS + max(0, speech - len(prefix)))))
        answer = self._prompt.read(completion.tokens, forced=language is not None)
        text = [n for n, token in enumerate(completion.tokens) if n >= answer.start and self._prompt.is_text(token)]
        return _Draft(
            language=language,
            prefix=prefix,
            text=tuple(completion.tokens[n] for n in text),
            logprobs=tuple(completion.logprobs[n] for n in text),
            answer=answer,
            completion=completion,
        )

    def _hypothesis(self, utterance: _Utterance, audio: AudioInput, draft: _Draft, decodes: int) -> Hypothesis:
        completion, answer = draft.completion, draft.answer
        audio_s = sum(audio.frames) / FRAMES_PER_S
        tokens = (*draft.prefix, *draft.text)
        of_prefix = self._logprobs_of(utterance, draft.prefix)
        logprobs = None if of_prefix is None else [*of_prefix, *draft.logprobs]
        kept = guards.kept(guards.Draft(tokens, completion.complete, audio_s), GUARDS)
        # How sure the model was of the language, or of there being none.
        sure = math.exp(min(0.0, math.fsum(completion.logprobs[: answer.start]))) if draft.language is None else None
        return Hypothesis(
            tokens=tuple(tokens[n] for n in kept),
            pieces=self._text.pieces(tokens[n] for n in kept),
            language=draft.language or answer.language,
            language_probability=sure if answer.language is not None else None,
            complete=completion.complete,
            confidence=_mean_probability(draft.logprobs),
            logprobs=None if logprobs is None else tuple(logprobs[n] for n in kept),
            no_speech=sure if answer.silent else None,
            cost=Cost(
                encode_s=completion.prefill_s,
                decode_s=completion.decode_s,
                audio_s=audio_s,
                prompt_tokens=completion.prompt_tokens,
                cached_tokens=completion.cached_tokens,
                generated_tokens=len(completion.tokens),
                decodes=decodes,
            ),
        )

    def _utterance(self, name: str) -> _Utterance:
        if name not in self._utterances:
            if len(self._utterances) >= MAX_UTTERANCES:
                self._utterances.popitem(last=False)
            self._utterances[name] = _Utterance(UtteranceAudio(name, self._geometry, self.form))
        return self._utterances[name]

    def _logprobs_of(self, utterance: _Utterance, prefix: Sequence[int]) -> list[float] | None:
        if utterance.logprobs is None or utterance.tokens[: len(prefix)] != tuple(prefix):
            return None
        return list(utterance.logprobs[: len(prefix)])


async def load_qwen3_asr(config: Mapping[str, Any], llm: Any) -> Qwen3ASR:
    """Fit the model's side to a running engine; see `ModelType.load`."""
    renderer = llm.renderer
    processor = renderer.get_mm_processor().info.get_hf_processor()
    template = getattr(processor, "chat_template", None) or renderer.tokenizer.chat_template
    if not template:
        raise ValueError("it has no chat template")
    max_model_len = llm.model_config.max_model_len
    prompt = Qwen3Prompt(renderer.tokenizer, template, max_context=min(MAX_CONTEXT, max_model_len // 4))
    geometry = Geometry.of(config)

    async def render(raw: dict[str, Any]) -> Any:
        (rendered,) = await renderer.render_cmpl_async([raw])
        return rendered

    form, reason = await choose_form(geometry, lambda items: prompt.ids(items, Context(), None), render)
    logger.info("Audio goes to the engine as %s%s.", form.value, f" ({reason})" if reason else "")
    max_items = llm.model_config.multimodal_config.get_limit_per_prompt("audio")
    return Qwen3ASR(prompt, geometry, max_model_len=max_model_len, form=form, max_items=max_items)


MODEL_TYPE = ModelType(
    load_qwen3_asr,
    {
        # Frozen windows are found again in it.
        "enable_prefix_caching": True,
        "limit_mm_per_prompt": {"audio": MAX_ITEMS},
        # Audio comes as features.
        "enable_mm_embeds": True,
        # The names of the items are all that is looked up; a second cache would only hold copies.
        "mm_processor_cache_gb": 0,
        # It also sizes the encoder's cache.
        "max_num_batched_tokens": 16384,
        "scheduling_policy": "priority",
        "worker_extension_cls": WORKER_EXTENSION,
    },
    {
        # vLLM's default for CPUs is 128 positions, more than an encoder window has.
        Device.CPU: {"block_size": 32},
        Device.ASCEND: {"max_model_len": ASCEND_POSITIONS},
        # As vllm-ascend's tutorial for this model serves it on these cards. They have no bfloat16, which the checkpoint
        # asks for, and their operators none of the fusions.
        Device.ASCEND_310P: {
            "dtype": "float16",
            "max_model_len": ASCEND_POSITIONS,
            "compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1, 4]},
            "additional_config": {"ascend_compilation_config": {"fuse_norm_quant": False, "enable_npugraph_ex": False}},
        },
    },
)


def _mean_probability(logprobs: Sequence[float]) -> float | None:
    return math.fsum(map(math.exp, logprobs)) / len(logprobs) if logprobs else None
