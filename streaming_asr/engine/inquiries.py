"""Questions of annotators, answered in threads or by other engines, each within its time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from streaming_asr.core.annotations import Inquiry
from streaming_asr.core.annotator import Blocking
from streaming_asr.engine.question_threads import QuestionThreads

logger = logging.getLogger(__name__)

MAX_WAITING = 256
"""Questions that wait or are being answered, of all sessions. Further ones are late at once."""

Answered = Callable[[Any], None]
Missed = Callable[[bool], None]
"""Takes whether the answer failed, rather than was late."""


Outcome = Callable[[str, str], None]
"""Takes the annotator's name and what became of its question: answered, late, failed."""


class Inquiries:
    """Has questions answered. Belongs to one event loop, and starts its threads at the first question.

    Args:
        on_outcome: is called with the outcome of each question, for metrics. It must not fail.
    """

    def __init__(self, on_outcome: Outcome = lambda annotator, outcome: None) -> None:
        self._on_outcome = on_outcome
        self._threads: dict[str, QuestionThreads] = {}
        """By the name of the annotator: one that hangs makes no other late."""
        self._open: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[Any]] = set()
        """What answers, late ones included that have not noticed yet that they are cancelled."""
        self._closed = False
        self._failing: set[str] = set()
        """Annotators whose failure was logged since they last had an answer."""

    def ask(self, inquiry: Inquiry, answered: Answered, missed: Missed) -> None:
        """Have a question answered. One of the two is called on the event loop, later, and no later than it is due;
        neither is after `close`.
        """
        if self._closed:
            return
        task = asyncio.create_task(self._answer(inquiry, answered, missed), name=f"annotate: {inquiry.annotator}")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    def close(self) -> None:
        """Ask nothing from now on, and drop what waits."""
        self._closed = True
        for task in self._open:
            task.cancel()
        for threads in self._threads.values():
            threads.close()

    async def _answer(self, inquiry: Inquiry, answered: Answered, missed: Missed) -> None:
        try:
            if max(len(self._open), len(self._asking) + 1) > MAX_WAITING:
                raise asyncio.TimeoutError
            answer = await self._in_time(inquiry)
        except asyncio.TimeoutError:
            self._on_outcome(inquiry.annotator, "late")
            missed(False)
        except Exception:
            if inquiry.annotator not in self._failing:
                self._failing.add(inquiry.annotator)
                logger.exception("The annotator %s failed to answer", inquiry.annotator)
            self._on_outcome(inquiry.annotator, "failed")
            missed(True)
        else:
            self._failing.discard(inquiry.annotator)
            self._on_outcome(inquiry.annotator, "answered")
            answered(answer)

    async def _in_time(self, inquiry: Inquiry) -> Any:
        """The answer.

        Raises:
            asyncio.TimeoutError: it is late. What answers is cancelled, and nothing waits until it has noticed.
        """
        asked = asyncio.create_task(self._asked(inquiry), name=f"answer: {inquiry.annotator}")
        self._asking.add(asked)
        asked.add_done_callback(self._answer_done)
        try:
            await asyncio.wait([asked], timeout=max(0.0, inquiry.due - time.monotonic()))
        finally:
            asked.cancel()
        if not asked.done():
            raise asyncio.TimeoutError
        if asked.cancelled():
            raise RuntimeError(f"the question of {inquiry.annotator} cancelled itself")
        return asked.result()

    def _answer_done(self, asked: asyncio.Task[Any]) -> None:
        self._asking.discard(asked)
        if not asked.cancelled():
            # Read, or asyncio logs it: the error of an answer in time is reported, and of a late one nobody cares.
            asked.exception()

    async def _asked(self, inquiry: Inquiry) -> Any:
        question = inquiry.question
        if not isinstance(question, Blocking):
            return await question.answer()
        if inquiry.annotator not in self._threads:
            self._threads[inquiry.annotator] = QuestionThreads(inquiry.annotator)
        return await self._threads[inquiry.annotator].answer(question.answer)
