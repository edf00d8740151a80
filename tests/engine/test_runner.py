"""The runner on a real event loop: a session that breaks ends alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streaming_asr.core.events import Done, Event, Final
from streaming_asr.core.recognizer import DecodeJob, Hypothesis, Kind
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.engine.runner import Runner
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import CAPABILITIES, make_session, silence, speech


def _raise(*_: Any, **__: Any) -> Any:
    raise IndexError("samples 0..10 are not held")


@pytest.mark.parametrize("breaks", ["take_job", "complete", "listener"])
@pytest.mark.parametrize("lets_go", [True, False])
def test_a_session_that_breaks_ends_alone(breaks: str, lets_go: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        runner = Runner(FakeRecognizer(), Scheduler(slots=1))
        broken: list[Exception] = []
        bad, events = make_session(key="bad"), list[Event]()
        if breaks != "listener":
            setattr(bad if breaks == "complete" else bad._channels[0], breaks, _raise)
        if not lets_go:
            setattr(bad, "abandon", _raise)  # noqa: B010 - mypy forbids assigning to a method
        others = {make_session(key=key): list[Event]() for key in ("first", "second")}
        runner.add(bad, _raise if breaks == "listener" else events.extend, broken.append)
        for session, received in others.items():
            runner.add(session, received.extend, pytest.fail)
        for session in (bad, *others):
            session.receive(np.concatenate([speech(1), silence(1)]).tobytes(), 0.0)
        # The broken one's decode is wanted first: the others' calls make its job.
        runner.scheduler.update(bad, 0.0)
        for session, received in others.items():
            received += session.stop(1.0)
            runner.update(session)
        for _ in range(20):
            await asyncio.sleep(0)
        for session, received in others.items():
            assert [type(event) for event in received][-2:] == [Final, Done]
            runner.remove(session)
        assert [type(error) for error in broken] == [IndexError]
        assert (runner.scheduler.sessions, runner.scheduler.running) == (0, 0)
        await runner.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(asyncio.wait_for(scenario(), 20))
    assert "Session bad broke" in caplog.text


def test_an_owner_that_fails_to_end_its_broken_session_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        runner = Runner(FakeRecognizer(), Scheduler(slots=1))
        bad, good, events = make_session(key="bad"), make_session(key="good"), list[Event]()
        runner.add(bad, _raise, _raise)
        runner.add(good, events.extend, pytest.fail)
        for session in (bad, good):
            session.receive(speech(1).tobytes(), 0.0)
            events += session.stop(1.0) if session is good else session.finalize(1.0)
        runner.update(bad)
        runner.update(good)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [type(event) for event in events][-2:] == [Final, Done]
        assert runner.scheduler.sessions == 1
        await runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert "failed to end it" in caplog.text


class _Faulty(FakeRecognizer):
    """Its first decode of the session `bad` goes wrong."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self._fault = fault
        self._failed = False

    def decode(self, job: DecodeJob) -> Coroutine[Any, Any, Hypothesis]:
        if self._failed or not job.utterance.startswith("bad"):
            return super().decode(job)
        self._failed = True
        if self._fault == "raises before it is awaited":
            raise ValueError("on purpose")
        return self._go_wrong()

    async def _go_wrong(self) -> Any:
        if self._fault == "cancels its own decode":
            raise asyncio.CancelledError


@pytest.mark.parametrize("fault", ["cancels its own decode", "returns no hypothesis", "raises before it is awaited"])
def test_a_recognizer_that_breaks_its_contract_costs_one_decode(fault: str) -> None:
    async def scenario() -> None:
        runner = Runner(_Faulty(fault), Scheduler(slots=1))
        sessions = {make_session(key=key): list[Event]() for key in ("bad", "first", "second")}
        for session, received in sessions.items():
            runner.add(session, received.extend, pytest.fail)
        for session, received in sessions.items():
            received += session.receive(np.concatenate([speech(1), silence(1)]).tobytes(), 0.0)
            received += session.stop(1.0)
            runner.update(session)
        for _ in range(30):
            await asyncio.sleep(0)
        for session, received in sessions.items():
            assert [type(event) for event in received][-2:] == [Final, Done]
            runner.remove(session)
        assert (runner.scheduler.sessions, runner.scheduler.running) == (0, 0)
        await runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_closed_runner_starts_no_job_and_reports_nothing() -> None:
    decoding: list[str] = []

    class Endless(FakeRecognizer):
        async def decode(self, job: DecodeJob) -> Hypothesis:
            decoding.append(job.utterance)
            await asyncio.sleep(3600)
            return Hypothesis()

    async def scenario() -> None:
        runner = Runner(Endless(), Scheduler(slots=1))
        for key in ("first", "second"):
            session = make_session(key=key)
            runner.add(session, pytest.fail, pytest.fail)
            session.receive(speech(1).tobytes(), 0.0)
            session.stop(1.0)
            runner.update(session)
        await asyncio.sleep(0)
        await runner.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert runner.scheduler.running == 0

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert decoding == ["first.0/1"]


def test_a_slot_is_free_once_the_recognizer_has_given_a_cancelled_job_up() -> None:
    """Also if its session leaves after it was cancelled: the next job is the most urgent one of that moment."""

    class FakeStubbornRecognizer(FakeRecognizer):
        def __init__(self) -> None:
            super().__init__()
            self.began: list[str] = []
            self.cancelled = 0
            self.go_on = asyncio.Event()

        async def decode(self, job: DecodeJob) -> Hypothesis:
            self.began.append(job.utterance)
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                self.cancelled += 1
                await self.go_on.wait()
                raise
            raise AssertionError("it was not cancelled")

    async def scenario() -> None:
        recognizer = FakeStubbornRecognizer()
        runner = Runner(recognizer, Scheduler(slots=1))
        leaver, talker, ender = (make_session(key=key) for key in ("leaver", "talker", "ender"))
        for session in (leaver, talker, ender):
            runner.add(session, lambda events: None, pytest.fail)
        leaver.receive(speech(1).tobytes(), 0.0)
        runner.update(leaver)
        await asyncio.sleep(0)
        leaver.finalize(0.1)
        runner.update(leaver)
        await asyncio.sleep(0)
        runner.remove(leaver)
        talker.receive(speech(1).tobytes(), 0.2)
        runner.update(talker)
        await asyncio.sleep(0)
        ender.receive(speech(1).tobytes(), 0.3)
        ender.finalize(0.4)
        runner.update(ender)
        await asyncio.sleep(0)
        assert recognizer.began == ["leaver.0/1"]
        recognizer.go_on.set()
        while len(recognizer.began) < 2:  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0)
        assert recognizer.began[1] == "ender.0/1"
        assert recognizer.cancelled == 1
        await runner.close()
        assert runner.scheduler.running == 0

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_final_decoded_ahead_is_cancelled_as_soon_as_speech_goes_on() -> None:
    """Speech that goes on leads to no event while nothing has been shown."""

    class FakeSlowRecognizer(FakeRecognizer):
        def __init__(self) -> None:
            super().__init__()
            self.cancelled: list[Kind] = []

        async def decode(self, job: DecodeJob) -> Hypothesis:
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                self.cancelled.append(job.kind)
                raise
            raise AssertionError("it was not cancelled")

    async def scenario() -> None:
        recognizer = FakeSlowRecognizer()
        runner = Runner(recognizer, Scheduler(slots=1))
        session = make_session(capabilities=replace(CAPABILITIES, abortable=True))
        runner.add(session, pytest.fail, pytest.fail)
        session.receive(np.concatenate([speech(0.2), silence(0.15)]).tobytes(), 0.0)
        runner.update(session)
        await asyncio.sleep(0)
        assert session.receive(speech(0.1).tobytes(), 0.1) == []
        runner.fill(session)
        await asyncio.sleep(0)
        assert recognizer.cancelled == [Kind.SPECULATIVE]
        await runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, asyncio.CancelledError, IndexError])
def test_whatever_a_session_raises_the_slots_are_filled(fault: type[BaseException]) -> None:
    """An error that is not an `Exception` is the event loop's; before, no decode was started after it."""

    def raises(_: object) -> None:
        raise fault

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        runner = Runner(FakeRecognizer(), Scheduler(slots=1))
        bad, good, events, broken = make_session(key="bad"), make_session(key="good"), list[Event](), list[Exception]()
        runner.add(bad, raises, broken.append)
        runner.add(good, events.extend, pytest.fail)
        for session in (bad, good):
            session.receive(speech(1).tobytes(), 0.0)
            session.stop(1.0)
            runner.scheduler.update(session, 0.0)
        job = runner.scheduler.next_job(0.0)
        assert job is not None
        assert job.session is bad
        ended: asyncio.Task[Any] = asyncio.create_task(runner._decode(job.job))
        await ended
        runner._tasks[job.job.id] = ended
        if issubclass(fault, Exception):
            runner._ended(job.job, 0.0, ended)
        else:
            with pytest.raises(fault):
                runner._ended(job.job, 0.0, ended)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [type(event) for event in events][-2:] == [Final, Done]
        assert len(broken) == 1
        await runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_fault_of_the_metrics_costs_no_decode() -> None:
    class Faulty:
        def began(self, *_: object) -> None:
            raise KeyError("a fault of the metrics")

        decoded = began

    async def scenario() -> None:
        runner = Runner(FakeRecognizer(), Scheduler(slots=1), (Faulty(),))
        session, events = make_session(), list[Event]()
        runner.add(session, events.extend, pytest.fail)
        session.receive(speech(1).tobytes(), 0.0)
        session.stop(1.0)
        runner.update(session)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [type(event) for event in events][-2:] == [Final, Done]
        await runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
