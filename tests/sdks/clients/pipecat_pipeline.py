"""What the scripts that try Pipecat's services have in common: a pipeline of one service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from speaking import asked, paced, pcm, report, spoken

ASKED = asked()
RATE = ASKED.get("rate", 16_000)
CHUNK_MS = ASKED.get("chunk_ms", 20)
logger.remove()


OnText = Callable[[str, bool], None]
"""Takes a text, and whether it is final."""


class Listener(FrameProcessor):
    """Reports the frames that come out of a service."""

    def __init__(self, scenario: str, on_text: OnText) -> None:
        super().__init__()
        self.scenario = scenario
        self.on_text = on_text
        self.final = asyncio.Event()

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            report(self.scenario, type=type(frame).__name__, text=frame.text)
            self.on_text(frame.text, isinstance(frame, TranscriptionFrame))
        elif isinstance(frame, ProposedUserStartedSpeakingFrame | ProposedUserStoppedSpeakingFrame):
            report(self.scenario, type=type(frame).__name__)
        if isinstance(frame, TranscriptionFrame):
            self.final.set()
        await self.push_frame(frame, direction)


async def listen(
    service: Any, scenario: str, clips: list[str], *, commit: bool, on_text: OnText = lambda text, final: None
) -> None:
    """A pipeline of one service: two sentences at real time.

    Args:
        clips: paths of the sentences.
        commit: as a voice detector of the pipeline's own would.
        on_text: is called with each text.
    """
    listener = Listener(scenario, on_text)
    worker = PipelineWorker(
        Pipeline([service, listener]),
        params=PipelineParams(audio_in_sample_rate=RATE),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _(worker: Any, frame: Any) -> None:
        started.set()

    @worker.event_handler("on_pipeline_error")
    async def _(worker: Any, frame: ErrorFrame) -> None:
        report(scenario, type="error", text=frame.error)

    async def receive(data: bytes) -> None:
        async for piece in paced(data, 2 * RATE, CHUNK_MS):
            await worker.queue_frame(InputAudioRawFrame(piece, RATE, 1))

    async def speak() -> None:
        await started.wait()
        for path in clips:
            listener.final.clear()
            await receive(pcm(path))
            await spoken(scenario)
            if commit:
                await worker.queue_frame(VADUserStoppedSpeakingFrame())
            for _ in range(100):
                await receive(bytes(RATE // 5))
                if listener.final.is_set():
                    break
        if commit:
            # Nothing was said.
            await worker.queue_frame(VADUserStoppedSpeakingFrame())
            await receive(bytes(RATE))
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.wait_for(asyncio.gather(runner.run(), speak()), 120)
