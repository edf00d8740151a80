"""The scheduler's asyncio shell: keeps the recognizer's slots filled and gives results to their sessions."""

from __future__ import annotations

import asyncio
import functools
import logging
import reprlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from streaming_asr.core.annotations import Inquiry
from streaming_asr.core.events import Event
from streaming_asr.core.recognizer import DecodeFailed, DecodeJob, Hypothesis, Recognizer
from streaming_asr.core.scheduler import Chosen, Scheduler, SessionBroke
from streaming_asr.core.session import Session
from streaming_asr.engine.inquiries import Inquiries, Outcome

logger = logging.getLogger(__name__)

CLOSE_S = 5.0
"""Longest wait for cancelled decodes at the end."""

Listener = Callable[[Sequence[Event]], None]
"""Takes a session's events that come from decodes and from annotators. Must not block."""

Broke = Callable[[Exception], None]
"""Called once when a session has failed and was removed; it will get no further events. Must not block."""


class Observer(Protocol):
    """Notified of each decode, for metrics."""

    def began(self, job: DecodeJob, waited_s: float) -> None:
        """A decode begins, after waiting for a slot."""

    def decoded(self, job: DecodeJob, outcome: Hypothesis | DecodeFailed | None, took_s: float) -> None:
        """A decode ended; the outcome is None if it was cancelled."""


class Runner:
    """Runs the jobs of all sessions on one recognizer. Belongs to one event loop.

    Args:
        recognizer: started.
        scheduler: chooses the jobs.
        observers: notified of each decode.
        annotator_asked: is called with the outcome of each question of an annotator.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        scheduler: Scheduler,
        observers: Sequence[Observer] = (),
        annotator_asked: Outcome = lambda annotator, outcome: None,
    ) -> None:
        self.recognizer = recognizer
        self.scheduler = scheduler
        self._observers = observers
        self._listeners: dict[str, tuple[Listener, Broke]] = {}
        self._tasks: dict[int, asyncio.Task[Hypothesis]] = {}
        self._cancelled: set[int] = set()
        """Jobs of them that are cancelled; once, as a recognizer may need a while to give one up."""
        self._inquiries = Inquiries(annotator_asked)
        self._closed = False

    def add(self, session: Session, listener: Listener, broke: Broke) -> None:
        """Accept a session, decode for it, and pass the events of its decodes to the listener.

        An exception in a session or its listener ends that session alone: it is removed, and `broke` is called.

        Raises:
            Busy: no further session is accepted now.
        """
        self.scheduler.add(session, time.monotonic())
        self._listeners[session.key] = listener, broke

    def remove(self, session: Session) -> None:
        """Remove a session and cancel its jobs in flight."""
        self._drop(session)
        self._fill()

    def update(self, session: Session) -> None:
        """Cancel and start jobs after a session received a command or a result, or audio that led to events."""
        self._release(session)
        for inquiry in session.take_inquiries():
            self._inquire(session, inquiry)
        self.fill(session)

    def fill(self, session: Session) -> None:
        """Cancel and start jobs. Enough after a session received audio that led to no event."""
        for job in session.take_superseded():
            self._cancel(job)
        self.scheduler.update(session, time.monotonic())
        self._fill()

    async def close(self) -> None:
        """Cancel all jobs in flight, and start no more."""
        self._closed = True
        self._inquiries.close()
        tasks = dict(self._tasks)
        for job in tasks:
            self._cancel(job)
        if tasks:
            _, running = await asyncio.wait(tasks.values(), timeout=CLOSE_S)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _fill(self) -> None:
        while not self._closed and (chosen := self._next_job()):
            job = chosen.job
            for observer in self._observers:
                _notify(observer.began, job, chosen.waited_s)
            task = asyncio.create_task(self._decode(job), name=f"decode {job.utterance}")
            self._tasks[job.id] = task
            # Not at the end of the coroutine: one that is cancelled before its first step would never get there.
            task.add_done_callback(functools.partial(self._ended, job, time.monotonic()))

    async def _decode(self, job: DecodeJob) -> Hypothesis:
        """As the recognizer's; what that raises before there is a coroutine belongs to the job, too."""
        return await self.recognizer.decode(job)

    def _next_job(self) -> Chosen | None:
        while True:
            try:
                return self.scheduler.next_job(time.monotonic())
            except SessionBroke as broke:
                self._break(broke.session, broke.__cause__ or broke)

    def _ended(self, job: DecodeJob, began: float, task: asyncio.Task[Hypothesis]) -> None:
        del self._tasks[job.id]
        self._cancelled.discard(job.id)
        now = time.monotonic()
        session = self.scheduler.finished(job.id, now)
        try:
            outcome = _outcome(job, task)
            for observer in self._observers:
                _notify(observer.decoded, job, outcome, now - began)
            if session is not None and not self._closed:
                self._deliver(session, job, outcome, now)
        except BaseException as error:
            if session is not None:
                self._break(session, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._fill()

    def _deliver(self, session: Session, job: DecodeJob, outcome: Hypothesis | DecodeFailed | None, now: float) -> None:
        if isinstance(outcome, Hypothesis):
            events = session.complete(job.id, outcome, now)
        else:
            # A job that the runner cancelled is not the session's any more. If the recognizer did, it is.
            events = session.fail(job.id, outcome or DecodeFailed("The decode was cancelled."), now)
        if events:
            listener, _ = self._listeners[session.key]
            listener(events)
        self.update(session)

    def _inquire(self, session: Session, inquiry: Inquiry) -> None:
        """Have a question of an annotator answered, and give the session the answer."""

        def deliver(take: Callable[[float], list[Event]]) -> None:
            if session.key not in self._listeners or self._closed:
                return
            try:
                if events := take(time.monotonic()):
                    listener, _ = self._listeners[session.key]
                    listener(events)
                if session.key in self._listeners:
                    self.update(session)
            except Exception as error:
                self._break(session, error)

        self._inquiries.ask(
            inquiry,
            lambda answer: deliver(lambda now: session.annotated(inquiry, answer, now)),
            lambda failed: deliver(lambda now: session.annotation_missed(inquiry, now, failed=failed)),
        )

    def _break(self, session: Session, error: BaseException) -> None:
        logger.error("Session %s broke and was ended", session.key, exc_info=error)
        _, broke = self._listeners.get(session.key, (None, None))
        self._drop(session)
        if broke is not None:
            try:
                broke(error if isinstance(error, Exception) else SessionBroke(session))
            except Exception:
                logger.exception("The owner of session %s failed to end it", session.key)

    def _drop(self, session: Session) -> None:
        self._listeners.pop(session.key, None)
        jobs = self.scheduler.remove(session)
        for job in jobs:
            self._cancel(job)
        try:
            session.abandon()
            self._release(session)
        except Exception:
            logger.exception("Session %s could not be abandoned", session.key)

    def _cancel(self, job: int) -> None:
        if job in self._tasks and job not in self._cancelled:
            self._cancelled.add(job)
            self._tasks[job].cancel()

    def _release(self, session: Session) -> None:
        for name in session.take_released():
            self.recognizer.release(name)


def _notify(observe: Callable[..., None], *arguments: Any) -> None:
    """Notify an observer, whose faults are no session's."""
    try:
        observe(*arguments)
    except Exception:
        logger.exception("An observer of decodes failed")


def _outcome(job: DecodeJob, task: asyncio.Task[Hypothesis]) -> Hypothesis | DecodeFailed | None:
    """The result of a decode; None if it was cancelled."""
    if task.cancelled():
        return None
    error = task.exception()
    if isinstance(error, DecodeFailed):
        logger.warning("Decode of %s failed: %s", job.utterance, error)
        return error
    # A bug of the recognizer must cost one decode, not the session.
    if error is None:
        result: object = task.result()
        if isinstance(result, Hypothesis):
            return result
        error = TypeError(f"decode returned {reprlib.repr(result)}, which is not a Hypothesis")
    logger.error("Decode of %s broke", job.utterance, exc_info=error)
    return DecodeFailed(str(error))
