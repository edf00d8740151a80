"""Questions of annotators are answered beside the event loop, and those that take too long are given up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streaming_asr.core.annotations import Inquiry
from streaming_asr.core.annotator import Annotation, Annotator, Blocking, Question, Speech, Waiting
from streaming_asr.core.events import Done, Event, Final, SessionWarning
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session
from streaming_asr.engine import inquiries, question_threads
from streaming_asr.engine.runner import Runner
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech

PATIENT_MS = 30_000
"""Budget of questions that get an answer, or fail: on a busy machine a moment may be long."""


class Asking(Annotator):
    """Replaces the text by the answer."""

    name = "answers"

    def __init__(self, question: Question, budget_ms: int) -> None:
        self._question = question
        self.budget_ms = budget_ms

    def final(self, final: Final, speech: Speech | None) -> Annotation:
        answer = yield self._question
        return replace(final, text=answer)


async def _never() -> Any:
    await asyncio.Event().wait()


async def _soon() -> str:
    await asyncio.sleep(0)
    return "soon"


async def _stays() -> Any:
    """As a client of another server that takes its time to close."""
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        await asyncio.sleep(20)


async def _gives_up() -> Any:
    raise asyncio.CancelledError


def _fails() -> str:
    raise ValueError("no")


def _exits() -> str:
    raise SystemExit(1)


def _ends_an_iteration() -> str:
    raise StopIteration


def _events(
    question: Question, outcomes: list[tuple[str, str]] | None = None, budget_ms: int = PATIENT_MS
) -> list[Event]:
    events: list[Event] = []
    counted = [] if outcomes is None else outcomes

    async def scenario() -> None:
        runner = Runner(FakeRecognizer(), Scheduler(slots=1), annotator_asked=lambda *outcome: counted.append(outcome))
        session = Session(
            "s",
            SessionOptions(encoding=Encoding.F32LE),
            CAPABILITIES,
            lambda _: FakeDetector(),
            make_annotators=lambda options, capabilities: [Asking(question, budget_ms)],
        )
        done = asyncio.Event()

        def listener(new: Any) -> None:
            events.extend(new)
            if any(isinstance(event, Done) for event in new):
                done.set()

        runner.add(session, listener, pytest.fail)
        session.receive(np.concatenate([speech(1), silence(1)]).tobytes(), 0.0)
        listener(session.stop(0.0))
        runner.update(session)
        await done.wait()
        runner.remove(session)
        await runner.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    return [event for event in events if isinstance(event, Final | SessionWarning | Done)]


def test_a_thread_answers_and_the_end_waits_for_it() -> None:
    final, done = _events(Blocking(lambda: threading.current_thread().name))
    assert isinstance(final, Final)
    assert final.text.startswith("annotators")
    assert isinstance(done, Done)


def test_another_engine_answers() -> None:
    final, _ = _events(Waiting(_soon))
    assert isinstance(final, Final)
    assert final.text == "soon"


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (Waiting(_never), "annotation_late"),
        (Waiting(_gives_up), "annotation_failed"),
        (Blocking(_fails), "annotation_failed"),
        (Blocking(_exits), "annotation_failed"),
        (Blocking(_ends_an_iteration), "annotation_failed"),
    ],
)
def test_a_question_without_an_answer_costs_a_warning(question: Question, code: str) -> None:
    outcomes: list[tuple[str, str]] = []
    warning, final, _ = _events(question, outcomes, 100 if code == "annotation_late" else PATIENT_MS)
    assert isinstance(warning, SessionWarning)
    assert warning.code == code
    assert outcomes == [("answers", code.removeprefix("annotation_"))]
    assert isinstance(final, Final)
    assert final.text


def test_too_many_questions_are_late_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiries, "MAX_WAITING", 0)
    warning, _, _ = _events(Waiting(_soon))
    assert isinstance(warning, SessionWarning)
    assert warning.code == "annotation_late"


def test_a_final_does_not_wait_until_a_late_question_is_cancelled() -> None:
    began = time.monotonic()
    warning, _, _ = _events(Waiting(_stays), budget_ms=100)
    assert isinstance(warning, SessionWarning)
    assert time.monotonic() - began < 15


def test_an_annotator_that_hangs_makes_no_other_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_threads, "THREADS", 1)
    hangs = threading.Event()
    answers: list[str] = []

    async def scenario() -> None:
        asker = inquiries.Inquiries()
        due = time.monotonic() + 20
        done = asyncio.Event()

        def answered(answer: str) -> None:
            answers.append(answer)
            done.set()

        asker.ask(Inquiry(0, 1, "hangs", Blocking(hangs.wait), due), lambda _: None, lambda failed: None)
        await asyncio.sleep(0)
        asker.ask(Inquiry(0, 2, "answers", Blocking(lambda: "here"), due), answered, lambda failed: done.set())
        await done.wait()
        hangs.set()
        asker.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert answers == ["here"]


class _Asker:
    """Asks questions of one annotator."""

    def __init__(self) -> None:
        self._inquiries = inquiries.Inquiries()

    async def ask(self, function: Callable[[], Any], within_s: float = 0.1) -> Any:
        """The answer; "late" or "failed" if there is none."""
        answer = asyncio.get_running_loop().create_future()
        due = time.monotonic() + within_s
        self._inquiries.ask(
            Inquiry(0, 1, "annotator", Blocking(function), due),
            answer.set_result,
            lambda failed: answer.set_result("failed" if failed else "late"),
        )
        return await answer

    def close(self) -> None:
        self._inquiries.close()


def _threads() -> int:
    return sum(thread.name == "annotators: annotator" for thread in threading.enumerate())


def test_a_question_that_hangs_makes_others_of_its_annotator_late_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(question_threads, "THREADS", 1)
    monkeypatch.setattr(question_threads, "HANGING_S", 0.15)
    hangs = threading.Event()

    async def scenario() -> None:
        asker = _Asker()
        assert await asker.ask(hangs.wait) == "late"
        began = time.monotonic()
        while await asker.ask(lambda: "here") == "late":
            pass
        assert time.monotonic() - began < 5
        assert [await asker.ask(lambda: "here", 20) for _ in range(3)] == ["here"] * 3
        hangs.set()
        while _threads() > 1:  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.01)
        assert await asker.ask(lambda: "here", 20) == "here"
        asker.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_threads_that_hang_are_bounded_and_then_questions_are_late_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_threads, "THREADS", 2)
    monkeypatch.setattr(question_threads, "HANGING_S", 0.1)
    monkeypatch.setattr(question_threads, "MAX_HANGING", 3)
    hangs = threading.Event()

    async def scenario() -> None:
        asker = _Asker()
        for _ in range(12):
            assert await asker.ask(hangs.wait) == "late"
        # Those that were late last are found to hang.
        await asyncio.sleep(0.2)
        assert _threads() == 5
        began = time.monotonic()
        assert [await asker.ask(lambda: "here") for _ in range(20)] == ["late"] * 20
        assert time.monotonic() - began < 1, "they would wait for two seconds"
        hangs.set()
        while await asker.ask(lambda: "here") == "late":
            pass
        while _threads() > 2:  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.01)
        asker.close()
        while _threads():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_questions_that_are_late_for_a_moment_get_no_further_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that is busy would be busier."""
    monkeypatch.setattr(question_threads, "THREADS", 1)
    most = 0

    def slow() -> None:
        nonlocal most
        most = max(most, _threads())
        time.sleep(0.12)

    async def scenario() -> None:
        asker = _Asker()
        assert set(await asyncio.gather(*(asker.ask(slow) for _ in range(5)))) == {"late"}
        while await asker.ask(lambda: "here") == "late":
            pass
        asker.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert most == 1
