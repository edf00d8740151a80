"""Finds the times of words by Qwen3-ForcedAligner under vLLM, with an engine of its own.

It never stands in the way of the recognizer: while its engine is down, or has too much to do, there are no times.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, DecodeFailed, RecognizerUnavailable, Word
from streaming_asr.recognizers.vllm.health import RestartPolicy, State
from streaming_asr.recognizers.vllm.loading import (
    closed_on_failure,
    engine_builder,
    is_aligner,
    prepare_environment,
    read_config,
)

if TYPE_CHECKING:  # vLLM may be missing, which the recognizer reports.
    from streaming_asr.recognizers.vllm.engine import SupervisedEngine
    from streaming_asr.recognizers.vllm.models.qwen3_aligner import Qwen3Aligner
    from streaming_asr.recognizers.vllm.stats import EngineStats

logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Alignments that are under way or wait; further ones are refused at once."""
FINAL, EARLY = 0, 1
"""Priorities in the engine: lower goes first."""
DEFAULT_BUDGET_MS = 300
RESTARTS = RestartPolicy(first_wait_s=5.0)
"""One engine starts at a time. If a device takes both with it, the recognizer's comes first."""


class VllmWordAligner:
    """A second, small model beside the recognizer's.

    Args:
        model: folder of the checkpoint, or its name on the Hugging Face hub.
        options: vLLM's engine options, as on the command line of ``vllm serve``.
        budget_ms: for which a final may wait for its times.
        restarts: how often a dead engine is started again; None for the default.
    """

    def __init__(
        self,
        model: str,
        options: Sequence[str] = (),
        *,
        budget_ms: int = DEFAULT_BUDGET_MS,
        restarts: RestartPolicy | None = None,
    ) -> None:
        self.budget_ms = budget_ms
        self._name = model
        self._options = tuple(options)
        self._restarts = restarts
        self._engine: SupervisedEngine | None = None
        self._model: Qwen3Aligner | None = None
        self._stats: EngineStats | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="word aligner")
        self._waiting = 0
        self.aligned = self.failed = self.late = self.refused = 0
        """Alignments so far: with times; without, as the engine or the model failed; given up by the caller; without,
        as it was not ready or had too much to do."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes, 639-3 where there is none. Valid after `start`."""
        return () if self._model is None else self._model.languages

    @property
    def ready(self) -> bool:
        return self._engine is not None and self._engine.state is State.READY

    def gauges(self) -> Mapping[str, float]:
        """Its own counts, and those of its engine."""
        gauges = {"aligner_ready": float(self.ready), "aligner_waiting_finals": float(self._waiting)}
        for name in ("aligned", "failed", "late", "refused"):
            gauges[f"aligner_{name}"] = float(getattr(self, name))
        if self._stats is not None:
            for field in fields(self._stats):
                gauges[f"aligner_engine_{field.name}"] = float(getattr(self._stats, field.name))
        return gauges

    async def start(self) -> None:
        """Load the model, and align once.

        Raises:
            RecognizerUnavailable: it can't run here; the message says why.
        """
        prepare_environment()
        async with closed_on_failure(self.close, f"the word aligner {self._name}"):
            await self._start()

    async def align(self, audio: Audio, text: str, language: str, *, early: bool = False) -> tuple[Word, ...] | None:
        """The times of a text's words. Cancelling the call gives the work up.

        Args:
            audio: in which the text is spoken, shape ``[n]``.
            language: one of `languages`.
            early: whether it may turn out to be of no use, and goes after those that are.

        Returns:
            The words, in ms of the audio; None where they can't be had, which is logged.
        """
        if not self.ready or self._waiting >= MAX_WAITING:
            self.refused += 1
            return None
        self._waiting += 1
        try:
            words = await self._align(audio, text, language, EARLY if early else FINAL)
        except asyncio.CancelledError:
            self.late += 1
            raise
        except (DecodeFailed, ValueError) as error:
            self.failed += 1
            logger.warning("No word times for an utterance: %s", error)
            return None
        finally:
            self._waiting -= 1
        self.aligned += 1
        return words

    async def close(self) -> None:
        """Stop the engine. Alignments in flight fail."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            await self._engine.close()

    async def _start(self) -> None:
        build, config = await asyncio.to_thread(self._prepare)
        from streaming_asr.recognizers.vllm.engine import SupervisedEngine
        from streaming_asr.recognizers.vllm.models.qwen3_aligner import Qwen3Aligner, japanese_morphemes

        self._engine = SupervisedEngine(build, self._restarts or RESTARTS, self._became)
        await self._engine.start()
        llm = self._engine.llm
        morphemes = await asyncio.to_thread(japanese_morphemes)
        if morphemes is None:
            logger.info("Without the package nagisa, Japanese words get estimated times.")
        try:
            self._model = Qwen3Aligner(
                llm.renderer.tokenizer, config, max_model_len=llm.model_config.max_model_len, morphemes=morphemes
            )
        except ValueError as error:
            raise RecognizerUnavailable(f"{self._name}: {error}") from error
        # The first request compiles what is compiled late.
        noise = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
        await self._align(noise, "warm up", "en", FINAL)
        logger.info("Words get their times from %s, in %s.", self._name, ", ".join(self._model.languages))

    async def _align(self, audio: Audio, text: str, language: str, priority: int) -> tuple[Word, ...]:
        assert self._engine is not None
        assert self._model is not None
        loop = asyncio.get_running_loop()
        alignment = await loop.run_in_executor(self._thread, self._model.prepare, audio, text, language)
        if not alignment.units:
            return ()
        answer = await self._engine.classify(alignment.question, priority)
        return self._model.words(alignment, answer)

    def _prepare(self) -> tuple[Any, Mapping[str, Any]]:
        """How to build the engine, and the checkpoint's ``config.json``. Blocks."""
        from streaming_asr.recognizers.vllm.device import device_here
        from streaming_asr.recognizers.vllm.models.qwen3_aligner import DEVICE_ENGINE_OPTIONS, ENGINE_OPTIONS
        from streaming_asr.recognizers.vllm.options import parse_engine_options
        from streaming_asr.recognizers.vllm.stats import EngineStats

        try:
            config = read_config(self._name, self._options)
            if not is_aligner(config):
                raise ValueError("it is not a word aligner such as Qwen/Qwen3-ForcedAligner-0.6B")
            defaults = {**ENGINE_OPTIONS, **DEVICE_ENGINE_OPTIONS.get(device_here(), {})}
            arguments = parse_engine_options(self._name, self._options, defaults)
        except ValueError as error:
            raise RecognizerUnavailable(f"{self._name}: {error}") from error
        self._stats = EngineStats()
        return engine_builder(arguments, self._stats), config

    def _became(self, state: State) -> None:
        if state in (State.RESTARTING, State.FAILED):
            logger.warning("The word aligner is %s; words get estimated times.", state.value)
        elif state is State.READY and self._model is not None:
            logger.info("The word aligner is ready again.")
