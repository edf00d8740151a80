"""The production recognizer: vLLM's AsyncLLM in this process, its engine in others, with Qwen3-ASR or Whisper."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Capabilities,
    DecodeFailed,
    DecodeJob,
    EngineNotInstalled,
    Health,
    Hypothesis,
    Kind,
    RecognizerUnavailable,
)
from streaming_asr.recognizers.common.cores import usable_cores
from streaming_asr.recognizers.vllm.affinity import Affinity
from streaming_asr.recognizers.vllm.health import RestartPolicy, State
from streaming_asr.recognizers.vllm.loading import (
    closed_on_failure,
    engine_builder,
    is_aligner,
    prepare_environment,
    read_config,
)
from streaming_asr.recognizers.vllm.models.base import ModelType, Run, SpeechModel, Verdict
from streaming_asr.recognizers.vllm.models.registry import model_type
from streaming_asr.recognizers.vllm.self_check import LIMIT_S
from streaming_asr.recognizers.vllm.word_aligner import VllmWordAligner

if TYPE_CHECKING:  # vLLM may be missing, which `start` reports.
    from streaming_asr.recognizers.vllm.engine import SupervisedEngine
    from streaming_asr.recognizers.vllm.stats import EngineStats

logger = logging.getLogger(__name__)

MOST_JOBS = 64
"""Jobs at once on an accelerator, if ``--max-num-seqs`` allows them."""
CPU_JOBS_PER_CORE = 2
SHARE_BESIDE_ALIGNER = 0.8
"""Of the device's memory that the engine takes if a word aligner needs some too; vLLM's own default is 0.92."""


class VllmRecognizer:
    """Decodes with a model under vLLM.

    Args:
        model: folder of the checkpoint, or its name on the Hugging Face hub.
        options: vLLM's engine options, as on the command line of ``vllm serve``.
        concurrency: jobs that run at once; None for what the engine and its device can use.
        restarts: how often a dead engine is started again; None for the default.
        aligner: finds the times of words; it is started and closed with this.
        self_check: whether the device is checked at the start.
    """

    def __init__(
        self,
        model: str,
        options: Sequence[str] = (),
        *,
        concurrency: int | None = None,
        restarts: RestartPolicy | None = None,
        aligner: VllmWordAligner | None = None,
        self_check: bool = True,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; at least 1 is needed")
        self._name = model
        self._options = tuple(options)
        self._concurrency = concurrency
        self._restarts = restarts
        self._aligner = aligner
        self._self_check = self_check
        self.verdict: Verdict | None = None
        """Of the check at the start; None if there was none."""
        self._listeners: list[Callable[[Health], None]] = []
        self._capabilities: Capabilities | None = None
        self._engine: SupervisedEngine | None = None
        self._model: SpeechModel | None = None
        self._stats: EngineStats | None = None
        self._affinity: Affinity | None = None
        """None where there is one engine."""
        self._aliases: tuple[str, ...] = ()

    @property
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            raise RuntimeError("the recognizer has not started")
        return self._capabilities

    @property
    def ready(self) -> bool:
        """Whether a job would be decoded at once. False before the start, and while a dead engine is replaced."""
        return self._engine is not None and self._model is not None and self._engine.state is State.READY

    def subscribe(self, listener: Callable[[Health], None]) -> None:
        self._listeners.append(listener)

    def gauges(self) -> Mapping[str, float]:
        gauges = {field.name: float(getattr(self.stats, field.name)) for field in fields(self.stats)}
        return gauges if self._aligner is None else {**gauges, **self._aligner.gauges()}

    @property
    def stats(self) -> EngineStats:
        """The engine's own counts and gauges. Valid after `start`."""
        if self._stats is None:
            raise RuntimeError("the recognizer has not started")
        return self._stats

    async def start(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise EngineNotInstalled("vLLM", self._name)
        prepare_environment()
        build, kind, config = await asyncio.to_thread(self._prepare)
        from streaming_asr.recognizers.vllm.engine import SupervisedEngine

        self._engine = SupervisedEngine(build, self._restarts or RestartPolicy(), self._became)
        async with closed_on_failure(self.close, self._name):
            await self._engine.start()
            self._model = await kind.load(config, self._engine.llm)
            engines = _engines(self._engine.llm.vllm_config.parallel_config)
            self._affinity = Affinity(engines) if engines > 1 else None
            # The first decode compiles what is compiled late, in each engine.
            warm_ups = [replace(_WARM_UP, utterance=f"warm-up {number}") for number in range(engines)]
            for job in warm_ups:
                await self.decode(job)
            for job in warm_ups:
                self.release(job.utterance)
            if self._self_check:
                await self._check(self._model)
            self._capabilities = self._describe(self._engine.llm, self._model)
            if self._aligner is not None:
                # Not before: each engine measures what memory is free.
                await self._aligner.start()

    async def decode(self, job: DecodeJob) -> Hypothesis:
        if self._engine is None or self._model is None:
            raise DecodeFailed("The recognizer is not running.")
        return await self._model.decode(job, self._run(job))

    def release(self, utterance: str) -> None:
        if self._affinity is not None:
            self._affinity.release(utterance)
        if self._model is not None:
            self._model.release(utterance)

    async def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None
        if self._aligner is not None:
            await self._aligner.close()
        if self._engine is not None:
            await self._engine.close()

    def _run(self, job: DecodeJob) -> Run:
        """Runs a job's requests, on the utterance's own engine."""
        assert self._engine is not None
        rank = None if self._affinity is None else self._affinity.engine(job.utterance)
        return functools.partial(self._engine.run, priority=int(job.kind), rank=rank)

    async def _check(self, model: SpeechModel) -> None:
        """Check the device; `SpeechModel.check` does what follows from it."""
        assert self._engine is not None
        llm = self._engine.llm

        async def ask_workers(method: str, *arguments: Any) -> Sequence[Any]:
            answers: Sequence[Any] = await llm.collective_rpc(method, args=arguments)
            return answers

        # One engine: the second decode of a clip is to find the first in its caches.
        rank = None if self._affinity is None else 0
        run = functools.partial(self._engine.run, priority=0, rank=rank)
        dtype = str(llm.model_config.dtype).removeprefix("torch.")
        try:
            verdict = await asyncio.wait_for(model.check(run, ask_workers, dtype), LIMIT_S)
        except asyncio.TimeoutError:
            verdict = Verdict(f"it took longer than {LIMIT_S:.0f} s", None)
        except DecodeFailed as error:
            verdict = Verdict(f"it failed: {error}", None)
        self.verdict = verdict
        if verdict is None:
            return
        if verdict.works:
            logger.info("Self-check passed: %s.", verdict.detail)
        elif verdict.works is None:
            logger.warning(
                "Self-check without a result: %s. Audio goes to the engine in encoder windows.", verdict.detail
            )
        else:
            logger.warning(
                "Self-check failed: %s. Each decode encodes the whole audio again, which is right but costs more.",
                verdict.detail,
            )

    def _became(self, state: State) -> None:
        if state.health is not None:
            for listener in self._listeners:
                listener(state.health)

    def _prepare(self) -> tuple[Callable[[], Any], ModelType, Mapping[str, Any]]:
        """How to build the engine, the checkpoint's type, and its ``config.json``. Blocks."""
        from streaming_asr.recognizers.vllm.options import parse_engine_options, refuse_unfit, served_names
        from streaming_asr.recognizers.vllm.stats import EngineStats

        try:
            config = read_config(self._name, self._options)
            kind = model_type(config.get("model_type"))
            if is_aligner(config):
                raise ValueError("it finds the times of words, and writes no text; give it as --word-aligner")
            defaults = kind.options_here()
            if self._aligner is not None:
                defaults = {"gpu_memory_utilization": SHARE_BESIDE_ALIGNER, **defaults}
            arguments = parse_engine_options(self._name, self._options, defaults)
            refuse_unfit(arguments)
            self._aliases = served_names(arguments)
        except ValueError as error:
            raise RecognizerUnavailable(f"{self._name}: {error}") from error
        self._stats = EngineStats()
        return engine_builder(arguments, self._stats), kind, config

    def _describe(self, llm: Any, model: SpeechModel) -> Capabilities:
        from vllm.platforms import current_platform

        parallel = llm.vllm_config.parallel_config
        engines = parallel.world_size * parallel.data_parallel_size
        on_cpu = current_platform.is_cpu()
        useful = CPU_JOBS_PER_CORE * usable_cores() if on_cpu else MOST_JOBS * parallel.data_parallel_size
        most = llm.vllm_config.scheduler_config.max_num_seqs * parallel.data_parallel_size
        return Capabilities(
            name="vllm",
            model=self._name,
            device=f"{engines} x {current_platform.device_name}, {str(llm.model_config.dtype).removeprefix('torch.')}",
            concurrency=self._concurrency or min(useful, most),
            max_audio_s=model.max_audio_s,
            languages=model.languages,
            abortable=True,
            writes_figures=model.writes_figures,
            aliases=self._aliases,
            raw_answer=model.raw_answer,
            word_aligner=self._aligner,
        )


def _engines(parallel: Any) -> int:
    """How many engines this process may choose from, by vLLM's ``ParallelConfig``."""
    count: int = parallel.data_parallel_size_local if parallel.local_engines_only else parallel.data_parallel_size
    return count


_WARM_UP = DecodeJob(
    id=0,
    kind=Kind.PARTIAL,
    utterance="warm-up",
    audio=np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32),
)
