"""Threads that answer the questions of one annotator. One that hangs is replaced, so that it costs others little."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

THREADS = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Questions of one annotator answered at once: a quarter of the cores, so that decodes keep the others."""
HANGING_S = 2.0
"""A thread that has been at a question for as long hangs, and another is started in its place. On a busy machine many
questions are late that take a moment: if these counted, further threads would take the cores of decodes."""
MAX_HANGING = 8
"""Threads of one annotator that are replaced. While as many hang, and so do those that there would be otherwise, all
questions are late at once."""


class QuestionThreads:
    """Belongs to one event loop. Threads start as they are needed, and none keeps the process from ending.

    Args:
        name: of the annotator.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._waiting: dict[_Question, None] = {}
        """Those that no thread has begun, in their order."""
        self._closed = False

    async def answer(self, function: Callable[[], Any]) -> Any:
        """Call the function in a thread; returns what it does. Cancel it once it is late.

        Raises:
            asyncio.TimeoutError: all threads hang.
        """
        question = _Question(function, asyncio.get_running_loop())
        self._waiting[question] = None
        self._give()
        if question in self._waiting and all(worker.hangs for worker in self._workers):
            del self._waiting[question]
            raise asyncio.TimeoutError
        try:
            return await question.answered
        except asyncio.CancelledError:
            self._waiting.pop(question, None)
            raise

    def close(self) -> None:
        """Begin nothing from now on."""
        self._closed = True
        self._waiting.clear()
        for worker in self._idle:
            worker.inbox.put(None)
        self._idle.clear()

    def _give(self) -> None:
        """Have threads begin what waits."""
        while self._waiting and (worker := self._free_worker()) is not None:
            question = next(iter(self._waiting))
            del self._waiting[question]
            question.check = question.loop.call_later(HANGING_S, self._hangs, worker)
            worker.inbox.put(question)

    def _free_worker(self) -> _Worker | None:
        if self._idle:
            return self._idle.pop()
        if self._at_work() >= THREADS or len(self._workers) >= THREADS + MAX_HANGING:
            return None
        worker = _Worker(f"annotators: {self._name}", self._ended)
        self._workers.add(worker)
        return worker

    def _at_work(self) -> int:
        return sum(not worker.hangs for worker in self._workers)

    def _hangs(self, worker: _Worker) -> None:
        """A thread has been at its question for `HANGING_S`."""
        if self._closed:
            return
        if not any(other.hangs for other in self._workers):
            logger.warning("The annotator %s hangs: no answer for %g s or more", self._name, HANGING_S)
        worker.hangs = True
        self._give()

    def _ended(self, worker: _Worker, question: _Question, answer: Any, error: Exception | None) -> None:
        """A thread has answered, or failed to."""
        if question.check is not None:
            question.check.cancel()
        worker.hangs = False
        if not question.answered.done():
            if error is None:
                question.answered.set_result(answer)
            else:
                question.answered.set_exception(error)
        if self._closed or self._at_work() > THREADS:
            self._workers.discard(worker)
            worker.inbox.put(None)
            return
        self._idle.append(worker)
        self._give()


class _Question:
    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.loop = loop
        self.answered: asyncio.Future[Any] = loop.create_future()
        self.check: asyncio.TimerHandle | None = None
        """Of the thread that is at it."""


_Ended = Callable[["_Worker", _Question, Any, "Exception | None"], None]


class _Worker:
    """A thread.

    Args:
        ended: is called on the question's event loop after each question.
    """

    def __init__(self, name: str, ended: _Ended) -> None:
        self.inbox: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        """Never has more than one; None ends the thread."""
        self.hangs = False
        self._ended = ended
        # The process waits for no thread that hangs.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (question := self.inbox.get()) is not None:
            answer: Any = None
            error: Exception | None = None
            try:
                answer = question.function()
            except Exception as raised:
                error = raised
            except BaseException as raised:
                # A task that raised this would end the event loop, or seem to be cancelled.
                error = RuntimeError(f"raised {raised!r}")
            if isinstance(error, StopIteration):
                # No future takes it.
                error = RuntimeError(f"raised {error!r}")
            try:
                question.loop.call_soon_threadsafe(self._ended, self, question, answer, error)
            except RuntimeError:
                # The event loop is closed.
                return
            # Nothing of it is kept until the next one.
            del question, answer, error
