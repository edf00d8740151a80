"""Questions of annotators are answered beside the event loop, and those that take too long are given up."""

from __future__ import annotations

import asyncio
import threading
import time
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
from streaming_asr.engine import inquiries
from streaming_asr.engine.runner import Runner
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech


class Asking(Annotator):
    """Replaces the text by the answer."""

    name = "answers"
    budget_ms = 100

    def __init__(self, question: Question) -> None:
        self._question = question

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
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        await asyncio.sleep(1)


async def _gives_up() -> Any:
    raise asyncio.CancelledError


def _fails() -> str:
    raise ValueError("no")


def _events(question: Question, outcomes: list[tuple[str, str]] | None = None) -> list[Event]:
    events: list[Event] = []
    counted = [] if outcomes is None else outcomes

    async def scenario() -> None:
        runner = Runner(FakeRecognizer(), Scheduler(slots=1), annotator_asked=lambda *outcome: counted.append(outcome))
        session = Session(
            "s",
            SessionOptions(encoding=Encoding.F32LE),
            CAPABILITIES,
            lambda _: FakeDetector(),
            make_annotators=lambda options, capabilities: [Asking(question)],
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

    asyncio.run(asyncio.wait_for(scenario(), 20))
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
    ],
)
def test_a_question_without_an_answer_costs_a_warning(question: Question, code: str) -> None:
    outcomes: list[tuple[str, str]] = []
    warning, final, _ = _events(question, outcomes)
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
    warning, _, _ = _events(Waiting(_stays))
    assert isinstance(warning, SessionWarning)
    assert time.monotonic() - began < 1


def test_an_annotator_that_hangs_makes_no_other_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiries, "THREADS", 1)
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

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert answers == ["here"]
