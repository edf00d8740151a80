"""A recognizer with a real vLLM engine on an event loop of its own thread, for tests that are plain functions."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import psutil
import soundfile

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context, Health
from streaming_asr.recognizers.vllm import recognizer as recognizer_module
from streaming_asr.recognizers.vllm.health import RestartPolicy
from streaming_asr.recognizers.vllm.models.base import Completion, Request
from streaming_asr.recognizers.vllm.models.qwen3_asr import Qwen3ASR
from streaming_asr.recognizers.vllm.models.qwen3_audio import AudioInput, Form, Geometry, UtteranceAudio, prompt_of
from streaming_asr.recognizers.vllm.models.qwen3_prompt import Qwen3Prompt
from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer

# Two small cores are enough for these models, and compiling for them would take longer than the tests.
OPTIONS = (
    "--dtype=float32",
    "--enforce-eager",
    "--kv-cache-memory-bytes=256M",
    "--enable-logging-iteration-details",
)
WAIT_S = 600.0
SAME = 1e-4
"""Requests that mean the same are no further apart than this; see `far_apart`."""

T = TypeVar("T")


class LiveEngine:
    """A started `VllmRecognizer`."""

    def __init__(self, checkpoint: Path, *options: str) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        self.health: list[Health] = []
        self.recognizer = VllmRecognizer(
            str(checkpoint),
            (*OPTIONS, *options),
            restarts=RestartPolicy(first_wait_s=0.1),
        )
        self.recognizer.subscribe(self.health.append)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine's loop", daemon=True)

    def __enter__(self) -> LiveEngine:
        self._thread.start()
        self._others = engine_processes(os.getpid())
        # The self-check is given up after a minute, which may be too short on a busy machine.
        with patch.object(recognizer_module, "LIMIT_S", WAIT_S):
            self.call(self.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes = [process for process in engine_processes(os.getpid()) if process not in self._others]
        self.call(self.shut())
        _, left = psutil.wait_procs(processes, timeout=60)
        # A zombie has ended; it only waits for init to notice.
        alive = [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not alive, "closing left processes of the engine behind"
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)

    async def open(self) -> None:
        """Start what stands on the event loop."""
        await self.recognizer.start()

    async def shut(self) -> None:
        await self.recognizer.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def run(self, request: Request, priority: int = 0) -> Completion:
        """Send the engine one request."""
        assert self.recognizer._engine is not None
        return self.call(self.recognizer._engine.run(request, priority))

    @property
    def model(self) -> Qwen3ASR:
        assert isinstance(self.recognizer._model, Qwen3ASR)
        return self.recognizer._model

    @property
    def prompt(self) -> Qwen3Prompt:
        return self.model._prompt

    @property
    def geometry(self) -> Geometry:
        return self.model._geometry

    @property
    def block(self) -> int:
        """Positions of a block of the key-value cache: 32 on a CPU, 128 under vllm-ascend."""
        assert self.recognizer._engine is not None
        size: int = self.recognizer._engine.llm.vllm_config.cache_config.block_size
        return size

    def request(
        self,
        audio: AudioInput,
        context: Context = Context(),  # noqa: B008
        language: str | None = None,
        prefix: Sequence[int] = (),
        max_tokens: int = 40,
    ) -> Request:
        """A request of Qwen3-ASR."""
        return Request(prompt_of(self.prompt.ids(len(audio.frames), context, language, prefix), audio), max_tokens)

    def windows(self, audio: Audio, *, name: str) -> AudioInput:
        """All of an utterance, as finals have it."""
        return UtteranceAudio(name, self.geometry, Form.FEATURES).input(audio, exact=True)


def endless(engine: LiveEngine, audio: AudioInput) -> Request:
    """A request that goes on for thousands of steps. Left to itself, a model may end at any token."""
    return replace(engine.request(audio, max_tokens=3500), choices=(1,))


def engine_processes(parent: int) -> list[psutil.Process]:
    """All processes that the engines of `parent` consist of; other servers it may have started are not among them."""
    engines = [child for child in psutil.Process(parent).children() if _is_engine(child)]
    return engines + [below for engine in engines for below in engine.children(recursive=True)]


def _is_engine(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # Also a zombie.
        return False
    return "EngineCore" in command or "spawn_main" in command


async def until(condition: Callable[[], bool], within_s: float = 120.0) -> None:
    """Wait for something that nothing announces."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.002)


def whole(audio: Audio) -> AudioInput:
    """An utterance as any client of vLLM would give it: one waveform, no name, nothing of ours."""
    return AudioInput([(audio, SAMPLE_RATE)], (None,), (len(audio) // 160,))  # type: ignore[arg-type]


def far_apart(one: Completion, other: Completion) -> float:
    """How far two greedy decodes are apart: the largest difference of a token's log-probability, or infinity where
    tokens differ.

    Requests that mean the same differ by about 1e-6, as sums are rounded differently in batches of different shapes.
    """
    if (one.tokens, one.complete) != (other.tokens, other.complete):
        return float("inf")
    return max((abs(a - b) for a, b in zip(one.logprobs, other.logprobs, strict=True)), default=0.0)


def speech(folder: Path, seconds: float) -> Audio:
    """The repository's clips one after the other, over and over, at 16 kHz."""
    clips = [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.glob("*.wav"))]
    once = np.concatenate(clips)
    samples: Audio = np.resize(once, int(seconds * SAMPLE_RATE))
    return samples
