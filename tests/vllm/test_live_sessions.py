"""Eight people speak at once to the real engine: who waits for whom."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from streaming_asr.core.events import Event, Final, Partial, SpeechStarted
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, DecodeFailed, DecodeJob, Hypothesis, Kind
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session
from streaming_asr.engine.runner import Runner
from streaming_asr.voice.detectors import make_detector
from tests.support.fakes import check_invariants
from tests.vllm.engine import LiveEngine, speech, until

SESSIONS = 8
STEP_S = 0.1
PAUSE_MS = SessionOptions().pause_ms


class Ledger:
    """When each decode became wanted and when it began."""

    def __init__(self) -> None:
        self.starts: list[tuple[Kind, float, float]] = []

    def began(self, job: DecodeJob, waited_s: float) -> None:
        now = time.monotonic()
        self.starts.append((job.kind, now - waited_s, now))

    def decoded(self, job: DecodeJob, outcome: Hypothesis | DecodeFailed | None, took_s: float) -> None:
        assert not isinstance(outcome, DecodeFailed)


def test_finals_are_behind_no_more_than_the_partials_already_running(engine: LiveEngine, librivox: Path) -> None:
    ledger = Ledger()
    received: dict[str, list[Event]] = {}

    async def speak(runner: Runner, number: int) -> Session:
        """A sentence at real time, from another place of the recording for each, then silence."""
        audio = speech(librivox, 24)[number * SAMPLE_RATE * 2 :][: SAMPLE_RATE * 4]
        audio = np.concatenate([audio, np.zeros(SAMPLE_RATE, np.float32)])
        # Without short pauses, in which a final would wait for an idle engine, and partials go first.
        pauses = {"short_pause_ms": PAUSE_MS, "pause_ms": PAUSE_MS}
        options = SessionOptions(encoding=Encoding.F32LE, language="en", **pauses)
        session = Session(f"s{number}", options, engine.recognizer.capabilities, make_detector)
        events = received.setdefault(session.key, [])
        runner.add(session, events.extend, pytest.fail)
        await asyncio.sleep(number * 0.15)
        began = asyncio.get_running_loop().time()
        step = int(STEP_S * SAMPLE_RATE)
        for count, start in enumerate(range(0, len(audio), step), 1):
            await asyncio.sleep(began + count * STEP_S - asyncio.get_running_loop().time())
            events += session.receive(audio[start : start + step].tobytes(), time.monotonic())
            runner.update(session)
        events += session.stop(time.monotonic())
        runner.update(session)
        await until(lambda: session.done)
        return session

    async def everyone() -> None:
        runner = Runner(engine.recognizer, Scheduler(engine.recognizer.capabilities.concurrency), (ledger,))
        await asyncio.gather(*(speak(runner, number) for number in range(SESSIONS)))
        await runner.close()

    engine.call(everyone())
    finals = [(wanted, start) for kind, wanted, start in ledger.starts if kind is not Kind.PARTIAL]
    partials = [start for kind, _, start in ledger.starts if kind is Kind.PARTIAL]
    assert len(finals) >= SESSIONS
    assert len(partials) >= SESSIONS
    for wanted, start in finals:
        assert not any(wanted < other < start for other in partials), "a partial was begun while a final waited"
    for events in received.values():
        check_invariants(events)
        assert sum(isinstance(event, Final) for event in events) == sum(
            isinstance(event, SpeechStarted) for event in events
        )
    assert any(isinstance(event, Partial) for events in received.values() for event in events)
