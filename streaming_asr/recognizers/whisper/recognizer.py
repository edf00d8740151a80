"""The embedded recognizer: Whisper by faster-whisper and CTranslate2, in threads of this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Capabilities,
    DecodeFailed,
    DecodeJob,
    Hypothesis,
    Kind,
    RecognizerUnavailable,
)
from streaming_asr.recognizers.common.cores import usable_cores
from streaming_asr.recognizers.whisper.chinese import converter
from streaming_asr.recognizers.whisper.decoding import Cancelled, Options, decode
from streaming_asr.recognizers.whisper.packaged import ENGLISH, INSTALL
from streaming_asr.recognizers.whisper.prompt import WINDOW_S
from streaming_asr.recognizers.whisper.weights import default_model, find_weights

if TYPE_CHECKING:
    from streaming_asr.recognizers.whisper.model import CTranslate2Whisper

logger = logging.getLogger(__name__)

MOST_WORKERS = 8
"""By default, on the CPU."""
WAITING_PER_WORKER = 8
"""Jobs that may wait for each worker. The scheduler gives no more than `Capabilities.concurrency` at once."""
GPU_WORKERS = 2
CLOSE_S = 5.0
"""Longest wait for running decodes at the end; each takes well under a second on a machine that keeps up."""


class FasterWhisperRecognizer:
    """Decodes with a CTranslate2 Whisper model.

    Args:
        model: folder of the model, its name on the Hugging Face hub, or None for the one that comes with
            ``streaming-asr[local]``.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        compute_type: CTranslate2's name of the arithmetic; None for ``int8`` on the CPU, ``float16`` on a GPU.
        workers: jobs that run at once; None for one a core, or two on a GPU.
        threads_per_worker: CPU threads of each. More workers of one thread do more than fewer of several.
        options: how to decode; None for the measured defaults.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        device: str = "auto",
        compute_type: str | None = None,
        workers: int | None = None,
        threads_per_worker: int = 1,
        options: Options | None = None,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {device!r}; it must be auto, cpu or cuda")
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; at least 1 is needed")
        if threads_per_worker < 1:
            raise ValueError(f"threads_per_worker is {threads_per_worker}; at least 1 is needed")
        self._model = model
        self._device = device
        self._compute_type = compute_type
        self._workers = workers
        self._threads_per_worker = threads_per_worker
        self._options = options or Options()
        self._capabilities: Capabilities | None = None
        self._whisper: CTranslate2Whisper | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: set[Future[Hypothesis]] = set()
        self._closing = False

    @property
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            raise RuntimeError("the recognizer has not started")
        return self._capabilities

    async def start(self) -> None:
        await asyncio.to_thread(self._load)

    async def decode(self, job: DecodeJob) -> Hypothesis:
        if self._pool is None or self._closing:
            raise DecodeFailed("The recognizer is not running.")
        most = self.capabilities.concurrency * (1 + WAITING_PER_WORKER)
        if len(self._jobs) >= most:
            raise DecodeFailed(f"The recognizer already has {most} jobs.")
        unwanted = threading.Event()
        future = self._pool.submit(self._decode, job, unwanted)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            unwanted.set()
            # CTranslate2 finishes its step, and the thread is not free before.
            free = asyncio.wrap_future(future)
            await asyncio.wait([free])
            if not free.cancelled():
                free.exception()  # Is not reported as forgotten.
            raise

    def release(self, utterance: str) -> None:
        """Nothing is held between jobs: the spectrogram is too cheap to keep."""

    async def close(self) -> None:
        if self._pool is None or self._closing:
            return
        self._closing = True
        self._pool.shutdown(wait=False)
        _, running = await asyncio.to_thread(wait, list(self._jobs), CLOSE_S)
        if self._whisper is not None and not running:
            self._whisper.close()
        self._whisper = None

    def _load(self) -> None:
        """Blocking part of `start`."""
        model = self._model or default_model()
        weights = find_weights(model)
        try:
            import ctranslate2

            from streaming_asr.recognizers.whisper.model import CTranslate2Whisper
        except ImportError as error:
            raise RecognizerUnavailable(f"{error.name} is not installed. Run: {INSTALL}") from error
        ctranslate2.set_log_level(logging.ERROR)
        device = self._device
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        compute_type = self._compute_type or ("int8" if device == "cpu" else "float16")
        on_cpu = max(1, min(MOST_WORKERS, usable_cores() // self._threads_per_worker))
        workers = self._workers or (on_cpu if device == "cpu" else GPU_WORKERS)
        try:
            self._whisper = CTranslate2Whisper(
                weights,
                device=device,
                compute_type=compute_type,
                workers=workers,
                threads_per_worker=self._threads_per_worker,
            )
            if "zh" in self._whisper.languages:
                converter()
            # The first decode is slow, and shows libraries that CUDA lacks.
            self._decode(_WARM_UP, threading.Event())
        except ImportError as error:
            raise RecognizerUnavailable(f"{error.name} is not installed. Run: {INSTALL}") from error
        except (RuntimeError, ValueError, OSError) as error:
            raise RecognizerUnavailable(
                f"Whisper from {weights} can't run on {device} with {compute_type}: {error}"
            ) from error
        self._capabilities = Capabilities(
            name="faster-whisper",
            model=model,
            device=f"{device} {compute_type}, {workers} worker{'s' if workers > 1 else ''}",
            concurrency=workers,
            max_audio_s=WINDOW_S,
            languages=self._whisper.languages,
            word_times=True,
            writes_figures=True,
        )
        if self._model is None:
            _explain(model, len(self._whisper.languages))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="whisper")
        # Its threads start now: later there may be no memory for them, and decodes would fail.
        together = threading.Barrier(workers)
        wait([self._pool.submit(together.wait) for _ in range(workers)])

    def _decode(self, job: DecodeJob, unwanted: threading.Event) -> Hypothesis:
        """Runs in a thread."""
        whisper = self._whisper
        if self._closing or whisper is None:
            raise DecodeFailed("The recognizer is closing.")
        try:
            return decode(whisper, self._options, job, unwanted.is_set)
        except Cancelled:
            raise DecodeFailed("The job was cancelled.") from None
        except RuntimeError as error:  # CTranslate2's only kind.
            raise DecodeFailed(f"Whisper failed on job {job.id}: {error}") from error


def _explain(model: str, languages: int) -> None:
    """Log what the default model recognizes, and what else there is."""
    if model == ENGLISH:
        logger.warning(
            "Whisper %s recognizes English only. For 99 languages install the multilingual default: %s", model, INSTALL
        )
    else:
        logger.info(
            "Whisper %s recognizes %d languages, and detects which one is spoken. English only, and faster: "
            "streaming-asr serve %s. More accurate, and slower: streaming-asr serve small, or see docs/embedded.md",
            model,
            languages,
            ENGLISH,
        )


_WARM_UP = DecodeJob(
    id=0,
    kind=Kind.FINAL,
    utterance="",
    audio=np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32),
    word_times=True,
)
