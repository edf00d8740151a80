"""The production recognizer: vLLM's AsyncLLM in this process, its engine in others, with Qwen3-ASR or Whisper."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
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
from streaming_asr.recognizers.vllm import plugin as vllm_plugin
from streaming_asr.recognizers.vllm.health import RestartPolicy, State
from streaming_asr.recognizers.vllm.models.base import ModelType, SpeechModel
from streaming_asr.recognizers.vllm.models.registry import model_type

if TYPE_CHECKING:  # vLLM may be missing, which `start` reports.
    from streaming_asr.recognizers.vllm.engine import SupervisedEngine
    from streaming_asr.recognizers.vllm.stats import EngineStats

logger = logging.getLogger(__name__)

MOST_JOBS = 64
"""Jobs at once on an accelerator, if ``--max-num-seqs`` allows them."""
CPU_JOBS_PER_CORE = 2
_OTHER_SOURCES = (
    "Without a way to the Hugging Face hub: give the folder of the weights instead of a name, or set "
    "VLLM_USE_MODELSCOPE=True to fetch them from ModelScope, or HF_ENDPOINT to a mirror"
)


class VllmRecognizer:
    """Decodes with a model under vLLM.

    Args:
        model: folder of the checkpoint, or its name on the Hugging Face hub.
        options: vLLM's engine options, as on the command line of ``vllm serve``.
        concurrency: jobs that run at once; None for what the engine and its device can use.
        restarts: how often a dead engine is started again; None for the default.
    """

    def __init__(
        self,
        model: str,
        options: Sequence[str] = (),
        *,
        concurrency: int | None = None,
        restarts: RestartPolicy | None = None,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; at least 1 is needed")
        self._name = model
        self._options = tuple(options)
        self._concurrency = concurrency
        self._restarts = restarts
        self._listeners: list[Callable[[Health], None]] = []
        self._capabilities: Capabilities | None = None
        self._engine: SupervisedEngine | None = None
        self._model: SpeechModel | None = None
        self._stats: EngineStats | None = None
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
        return {field.name: float(getattr(self.stats, field.name)) for field in fields(self.stats)}

    @property
    def stats(self) -> EngineStats:
        """The engine's own counts and gauges. Valid after `start`."""
        if self._stats is None:
            raise RuntimeError("the recognizer has not started")
        return self._stats

    async def start(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise EngineNotInstalled("vLLM", self._name)
        # Its processes must not inherit the threads and locks of this one, and are marked for the plugin.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        os.environ[vllm_plugin.MARK] = "1"
        # Standard output is for transcripts.
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        build, kind, config = await asyncio.to_thread(self._prepare)
        from streaming_asr.recognizers.vllm.engine import SupervisedEngine

        self._engine = SupervisedEngine(build, self._restarts or RestartPolicy(), self._became)
        try:
            await self._engine.start()
            self._model = await kind.load(config, self._engine.llm)
            self._capabilities = self._describe(self._engine.llm, self._model)
            # The first decode compiles what is compiled late.
            await self._model.decode(_WARM_UP, functools.partial(self._engine.run, priority=0))
            self._model.release(_WARM_UP.utterance)
        except RecognizerUnavailable:
            await self.close()
            raise
        except Exception as error:  # vLLM's reasons for not starting have no common class.
            await self.close()
            raise RecognizerUnavailable(f"vLLM can't run {self._name}: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def decode(self, job: DecodeJob) -> Hypothesis:
        if self._engine is None or self._model is None:
            raise DecodeFailed("The recognizer is not running.")
        return await self._model.decode(job, functools.partial(self._engine.run, priority=int(job.kind)))

    def release(self, utterance: str) -> None:
        if self._model is not None:
            self._model.release(utterance)

    async def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None
        if self._engine is not None:
            await self._engine.close()

    def _became(self, state: State) -> None:
        if state.health is not None:
            for listener in self._listeners:
                listener(state.health)

    def _prepare(self) -> tuple[Callable[[], Any], ModelType, Mapping[str, Any]]:
        """How to build the engine, the checkpoint's type, and its ``config.json``. Blocks."""
        from transformers import PretrainedConfig
        from vllm.v1.engine.async_llm import AsyncLLM

        from streaming_asr.recognizers.vllm.compat import OLDEST, patch, untested, version
        from streaming_asr.recognizers.vllm.options import parse_engine_options, refuse_unfit, served_names
        from streaming_asr.recognizers.vllm.stats import EngineStats, StatsCollector

        if version() < OLDEST:
            found, needed = (".".join(map(str, number)) for number in (version(), OLDEST))
            raise RecognizerUnavailable(f"vLLM {found} is installed; {needed} or later is needed.")
        if warning := untested(version()):
            logger.warning(warning)
        patch()
        try:
            plain = parse_engine_options(self._name, self._options, {})
            config, _ = PretrainedConfig.get_config_dict(self._name, revision=plain.revision)
            kind = model_type(config.get("model_type"))
            arguments = parse_engine_options(self._name, self._options, kind.options_here())
            refuse_unfit(arguments)
            self._aliases = served_names(arguments)
        except ValueError as error:
            raise RecognizerUnavailable(f"{self._name}: {error}") from error
        except OSError as error:
            hint = "" if os.path.isdir(self._name) else f". {_OTHER_SOURCES}"
            raise RecognizerUnavailable(f"{self._name}: {str(error).rstrip('.')}{hint}") from error
        self._stats = stats = EngineStats()
        gauges: dict[int, tuple[int, int, float]] = {}

        def build() -> Any:
            gauges.clear()
            collectors = [lambda _config, index=0: StatsCollector(stats, gauges, index)]
            return AsyncLLM.from_engine_args(arguments, stat_loggers=collectors)

        return build, kind, config

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
            aliases=self._aliases,
            raw_answer=model.raw_answer,
        )


_WARM_UP = DecodeJob(
    id=0,
    kind=Kind.PARTIAL,
    utterance="warm-up",
    audio=np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32),
)
