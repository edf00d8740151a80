"""All sessions' decodes -> one recognizer: who decodes next, and who is let in.

Jobs are pulled, never queued: when a slot is free, the most urgent session makes a job from the audio of that
moment. So nothing stale is ever decoded, and under load partials become rarer, evenly, by themselves.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from streaming_asr.core.channel import Demand
from streaming_asr.core.recognizer import DecodeJob, Kind
from streaming_asr.core.session import Session

RESERVED_FOR_FINALS = 0.25
"""Share of the slots that partials leave free, where there are four or more."""
LATENCY_WINDOW_S = 30.0
"""How long a final's wait counts when new sessions ask to be let in."""
SPARE_WISHES = 64
"""Wishes that no longer hold may be kept up to this many, and twice the sessions, before they are cleared away."""
MAX_FINALS_JUDGED = 20
"""Earlier ones say how it was: when an overload is over, sessions are let in again after so many finals."""
MIN_FINALS_JUDGED = 5
"""Fewer finals in the window say too little to refuse anybody."""


class Busy(Exception):
    """No further session is let in now. The message is for the client."""


class SessionBroke(Exception):
    """A session raised an exception while its job was made; it has been removed. The cause is that exception."""

    def __init__(self, session: Session) -> None:
        super().__init__(f"session {session.key} broke")
        self.session = session


@dataclass(frozen=True, slots=True)
class Limits:
    """What the scheduler lets in."""

    max_sessions: int = 256
    final_objective_s: float = 2.0
    """New sessions are refused while a tenth of the recent finals waited longer than this for their text."""


class PartialLimit:
    """How many partials may run at once: grown by one while they are quick, halved when they are slow.

    (AIMD, Chiu & Jain 1989.) A partial that takes longer than `target_s` is stale when it arrives, and on an engine
    that batches it slows the finals beside it.

    Args:
        slots: of the recognizer.
    """

    def __init__(self, slots: int, target_s: float = 1.0) -> None:
        self._most = max(1, slots - int(slots * RESERVED_FOR_FINALS))
        self._target_s = target_s
        self._limit = float(self._most)
        self._ignore_until = 0.0

    @property
    def limit(self) -> int:
        return int(self._limit)

    def observe(self, took_s: float, now: float) -> None:
        """Learn from one partial's decode time."""
        if took_s <= self._target_s:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        elif now >= self._ignore_until:
            self._limit = max(1.0, self._limit / 2)
            # Those that already ran under the old limit say nothing of the new one.
            self._ignore_until = now + took_s


class Chosen(NamedTuple):
    """What runs next."""

    session: Session
    job: DecodeJob
    waited_s: float
    """Since the decode became wanted; for a partial, since the utterance's last one."""


class _Wish(NamedTuple):
    """A session wants a decode. Sorts the most urgent first."""

    turn: Kind
    """Among which kind it takes its turn: what is not live takes it among the partials."""
    since: float
    order: int
    session: Session
    demand: Demand


@dataclass(slots=True)
class _Running:
    session: Session
    kind: Kind
    began: float


class Scheduler:
    """Chooses the next job. Call `update` whenever a session may want something else than before.

    Args:
        slots: jobs the recognizer can usefully run at once.
    """

    def __init__(self, slots: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.partial_limit = PartialLimit(slots)
        self._slots = slots
        self._sessions: dict[str, Session] = {}
        self._wanting: dict[str, _Wish] = {}
        """What each session wants now, by its key."""
        self._heap: list[_Wish] = []
        """The wishes, the most urgent first, and some that no longer hold."""
        self._running: dict[int, _Running] = {}
        self._ids = itertools.count(1)
        self._orders = itertools.count()
        self._final_waits: deque[tuple[float, float]] = deque(maxlen=MAX_FINALS_JUDGED)
        """(when, seconds) of live finals: how long each waited for its slot."""

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    @property
    def running(self) -> int:
        return len(self._running)

    def admit(self, now: float) -> None:
        """Check that one more session may come.

        Raises:
            Busy: too many are here, or the recognizer is behind.
        """
        if len(self._sessions) >= self.limits.max_sessions:
            raise Busy(f"all {self.limits.max_sessions} sessions are taken; try again later")
        if self.lag_s(now) > self.limits.final_objective_s:
            raise Busy(f"the recognizer is behind by {self.lag_s(now):.1f} s; try again later")

    def add(self, session: Session, now: float) -> None:
        """Let a session in.

        Raises:
            Busy: as `admit`.
        """
        self.admit(now)
        self._sessions[session.key] = session

    def remove(self, session: Session) -> list[int]:
        """A session has ended or its client is gone; returns its jobs in flight, which may be cancelled."""
        self._sessions.pop(session.key, None)
        self._wanting.pop(session.key, None)
        return [job for job, running in self._running.items() if running.session is session]

    def update(self, session: Session, now: float) -> None:
        """The session received something: see whether it wants a decode."""
        demand = session.demand() if session.key in self._sessions else None
        if demand is None:
            self._wanting.pop(session.key, None)
            return
        turn = demand.kind if session.live(now) else Kind.PARTIAL
        held = self._wanting.get(session.key)
        if held is not None and (held.turn, held.demand) == (turn, demand):
            return
        wish = _Wish(turn, demand.since, next(self._orders), session, demand)
        self._wanting[session.key] = wish
        heapq.heappush(self._heap, wish)
        if len(self._heap) > 2 * len(self._sessions) + SPARE_WISHES:
            self._heap = list(self._wanting.values())
            heapq.heapify(self._heap)

    def next_job(self, now: float) -> Chosen | None:
        """The next job to run, if a slot is free for it: finals first, then the one that has waited longest.

        What is not live takes its turn among the partials, whatever it is: it delays nobody's final, and is not
        starved by partials either.

        Raises:
            SessionBroke: the most urgent session failed to make its job. Call again for the next one.
        """
        if len(self._running) >= self._slots:
            return None
        while self._heap:
            wish = self._heap[0]
            session = wish.session
            if self._wanting.get(session.key) is not wish:
                heapq.heappop(self._heap)
                continue
            if wish.demand.kind is Kind.PARTIAL and self._partials_running() >= self.partial_limit.limit:
                return None
            heapq.heappop(self._heap)
            del self._wanting[session.key]
            try:
                job = wish.demand.take(next(self._ids), now)
                self.update(session, now)
            except Exception as error:
                self._sessions.pop(session.key, None)
                self._wanting.pop(session.key, None)
                raise SessionBroke(session) from error
            if job is None:
                continue
            self._running[job.id] = _Running(session, job.kind, now)
            if job.kind is Kind.FINAL and session.live(now):
                self._final_waits.append((now, now - wish.since))
            return Chosen(session, job, now - wish.since)
        return None

    def finished(self, job: int, now: float) -> Session | None:
        """A job has ended, however it did; returns its session, or None if that is gone."""
        running = self._running.pop(job, None)
        if running is None:
            return None
        if running.kind is Kind.PARTIAL:
            self.partial_limit.observe(now - running.began, now)
        return running.session if running.session.key in self._sessions else None

    def lag_s(self, now: float) -> float:
        """How long finals waited for a slot lately: their 90th percentile, seconds."""
        while self._final_waits and self._final_waits[0][0] < now - LATENCY_WINDOW_S:
            self._final_waits.popleft()
        waits = sorted(wait for _, wait in self._final_waits)
        return waits[int(0.9 * len(waits))] if len(waits) >= MIN_FINALS_JUDGED else 0.0

    def _partials_running(self) -> int:
        return sum(running.kind is Kind.PARTIAL for running in self._running.values())
