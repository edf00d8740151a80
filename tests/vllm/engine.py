"""A recognizer with a real vLLM engine on an event loop of its own thread, for tests that are plain functions."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from streaming_asr.models.base import Completion, Request
from streaming_asr.models.qwen3_asr import Qwen3ASR
from streaming_asr.models.qwen3_audio import AudioInput, Form, Geometry, UtteranceAudio, prompt_of
from streaming_asr.models.qwen3_prompt import Qwen3Prompt
from streaming_asr.recognizers.base import SAMPLE_RATE, Audio, Context
from streaming_asr.recognizers.vllm import VllmRecognizer
from streaming_asr.recognizers.vllm_engine import RestartPolicy, State

# Two small cores are enough for these models, and compiling for them would take longer than the tests.
OPTIONS = (
    "--dtype=float32",
    "--enforce-eager",
    "--kv-cache-memory-bytes=256M",
    "--enable-logging-iteration-details",
)
WAIT_S = 120.0

T = TypeVar("T")


class LiveEngine:
    """A started `VllmRecognizer`."""

    def __init__(self, checkpoint: Path, *options: str) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        self.states: list[State] = []
        self.recognizer = VllmRecognizer(
            str(checkpoint),
            (*OPTIONS, *options),
            restarts=RestartPolicy(first_wait_s=0.1),
            changed=self.states.append,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine's loop", daemon=True)

    def __enter__(self) -> LiveEngine:
        self._thread.start()
        self.call(self.recognizer.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self.recognizer.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)

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


def whole(audio: Audio) -> AudioInput:
    """An utterance as any client of vLLM would give it: one waveform, no name, nothing of ours."""
    return AudioInput([(audio, SAMPLE_RATE)], (None,), (len(audio) // 160,))  # type: ignore[arg-type]


def voice(seconds: float, *, seed: int = 0) -> Audio:
    """Something like speech: a buzz whose loudness and colour change at the pace of syllables."""
    random = np.random.default_rng(seed)
    n = int(seconds * SAMPLE_RATE)
    times = np.arange(n) / SAMPLE_RATE
    syllables = np.interp(times, np.arange(0, seconds + 1, 0.15), random.uniform(0, 1, int((seconds + 1) / 0.15) + 2)[: len(np.arange(0, seconds + 1, 0.15))])
    pitch = np.cumsum(np.interp(times, np.arange(0, seconds + 2), random.uniform(90, 220, int(seconds) + 3)[: len(np.arange(0, seconds + 2))])) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 30))
    return (0.1 * syllables * buzz + 0.003 * random.normal(size=n)).astype(np.float32)
