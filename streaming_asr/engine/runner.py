"""The scheduler's asyncio shell: keeps the recognizer's slots filled and hands results to their sessions."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from streaming_asr.core.events import Event
from streaming_asr.core.recognizer import DecodeFailed, DecodeJob, Hypothesis, Kind, Recognizer
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session

logger = logging.getLogger(__name__)

Listener = Callable[[Sequence[Event]], None]
"""Takes a session's events that come from decodes. Must not block."""


class Observer(Protocol):
    """Is told of each decode, for metrics."""

    def began(self, kind: Kind, waited_s: float) -> None: ...

    def decoded(self, job: DecodeJob, outcome: Hypothesis | DecodeFailed | None, took_s: float) -> None: ...


class Runner:
    """Runs jobs on one recognizer for all sessions. Lives on one event loop."""

    def __init__(self, recognizer: Recognizer, scheduler: Scheduler, observer: Observer | None = None) -> None:
        self.recognizer = recognizer
        self.scheduler = scheduler
        self._observer = observer
        self._listeners: dict[str, Listener] = {}
        self._tasks: dict[int, asyncio.Task[Hypothesis]] = {}

    def add(self, session: Session, listener: Listener) -> None:
        """Let a session in, and send it what its decodes bring.

        Raises:
            Busy: no further session is let in now.
        """
        self.scheduler.add(session, time.monotonic())
        self._listeners[session.key] = listener

    def remove(self, session: Session) -> None:
        """A session has ended; what it still has in flight is given up."""
        session.abandon()
        for job in self.scheduler.remove(session):
            self._tasks[job].cancel()
        self._listeners.pop(session.key, None)
        self._release(session)
        self._fill()

    def update(self, session: Session) -> None:
        """Call after anything was given to a session."""
        for job in session.take_superseded():
            if task := self._tasks.get(job):
                task.cancel()
        self._release(session)
        self.heard(session)

    def heard(self, session: Session) -> None:
        """Enough where a session only heard audio, and no event came of it."""
        self.scheduler.update(session, time.monotonic())
        self._fill()

    async def close(self) -> None:
        """Cancel what is in flight."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        while chosen := self.scheduler.next_job(time.monotonic()):
            job = chosen.job
            if self._observer:
                self._observer.began(job.kind, chosen.waited_s)
            task = asyncio.create_task(self.recognizer.decode(job), name=f"decode {job.utterance}")
            self._tasks[job.id] = task
            # Not a wrapping coroutine: one that is cancelled before its first step would never see its own end.
            task.add_done_callback(functools.partial(self._ended, job, time.monotonic()))

    def _ended(self, job: DecodeJob, began: float, task: asyncio.Task[Hypothesis]) -> None:
        del self._tasks[job.id]
        now = time.monotonic()
        session = self.scheduler.finished(job.id, now)
        outcome = _outcome(job, task)
        if self._observer:
            self._observer.decoded(job, outcome, now - began)
        if session is None:
            self._fill()
            return
        events: list[Event] = []
        if isinstance(outcome, Hypothesis):
            events = session.complete(job.id, outcome, now)
        elif outcome is not None:
            events = session.fail(job.id, outcome, now)
        if events:
            self._listeners[session.key](events)
        self.update(session)

    def _release(self, session: Session) -> None:
        for name in session.take_released():
            self.recognizer.release(name)


def _outcome(job: DecodeJob, task: asyncio.Task[Hypothesis]) -> Hypothesis | DecodeFailed | None:
    """What a decode brought; None if it was cancelled."""
    if task.cancelled():
        return None
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, DecodeFailed):
        logger.warning("Decode of %s failed: %s", job.utterance, error)
        return error
    # A recognizer's bug must cost one decode, not the session.
    logger.error("Decode of %s broke", job.utterance, exc_info=error)
    return DecodeFailed(str(error))
