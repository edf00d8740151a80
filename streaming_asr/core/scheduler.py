"""All sessions' decodes -> one recognizer: which session decodes next, and whether a new session is accepted.

Jobs are pulled, never queued: when a slot is free, the most urgent session makes a job from the audio of that
moment. So no job is stale, and under load the partials of all sessions become rarer, evenly.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from streaming_asr.core.channel import Demand
from streaming_asr.core.recognizer import DecodeJob, Kind
from streaming_asr.core.session import Session

RESERVED_FOR_FINALS = 0.25
"""Share of the slots that partials leave free, where there are four or more."""
IDLE_SHARE = 0.5
"""The recognizer is idle for a session while the others take less of its slots than this, and want no more."""
LATENCY_WINDOW_S = 30.0
"""How long a final's wait counts when a new session is to be accepted."""
AHEAD_S = 10.0
"""How much later the decodes of a session that is not live come than they would: nobody waits for them. While live
partials take all slots, such a session gets one decode, of up to 30 s of audio, in little more than this time."""
SHARE_OF_OTHERS = 0.5
"""Of the slots, what sessions that are not live take at most while somebody speaks in one that is: a live final can't
interrupt the decode that its slot runs."""
SPARE_REQUESTS = 64
"""Outdated requests are removed once there are more than twice as many requests as sessions, and this many more."""
MAX_FINALS_JUDGED = 20
"""The latest ones. Older waits are ignored, so that sessions are accepted again soon after an overload."""
LATE_S = 0.05
"""A caller that could not act for less is not late."""
MAX_LATE = 100
MIN_FINALS_JUDGED = 5
"""Fewer finals in the window are too few to refuse a session for."""


class Busy(Exception):
    """No further session is accepted now. The message is for the client."""


class SessionBroke(Exception):
    """A session raised an exception while its job was made; it has been removed. The cause is that exception."""

    def __init__(self, session: Session) -> None:
        super().__init__(f"session {session.key} broke")
        self.session = session


@dataclass(frozen=True, slots=True)
class Limits:
    """When the scheduler accepts another session."""

    max_sessions: int = 256
    final_objective_s: float = 2.0
    """New sessions are refused while a tenth of the recent finals waited longer than this for their text."""


class PartialLimit:
    """How many partials may run at once: one more while they are quick, half as many when they are slow.

    This is additive increase, multiplicative decrease (Chiu & Jain 1989). A partial that takes longer than `target_s`
    is stale when it arrives, and on an engine that batches it slows down the finals beside it.

    Args:
        slots: number of jobs that the recognizer runs at once.
        target_s: a slower partial is too slow.
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
        """Adapt to the decode time of one partial."""
        if took_s <= self._target_s:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        elif now >= self._ignore_until:
            self._limit = max(1.0, self._limit / 2)
            # Partials that already ran under the old limit must not lower the new one.
            self._ignore_until = now + took_s


class Chosen(NamedTuple):
    """The job that runs next."""

    session: Session
    job: DecodeJob
    waited_s: float
    """Since the decode became wanted; for a partial, since the utterance's last one."""


class _Request(NamedTuple):
    """A session's most urgent demand. Sorts the most urgent first."""

    when_idle: bool
    """As `Demand.when_idle`."""
    rank: Kind
    """The kind that it is ranked as: demands of a session that is not live are ranked as partials."""
    turn: float
    """When it became wanted; `AHEAD_S` later where the session is not live, and counted from its last decode."""
    order: int
    session: Session
    demand: Demand
    live: bool


@dataclass(slots=True)
class _Running:
    session: Session
    kind: Kind
    began: float
    live: bool
    """Whether its session was, when it began."""

    @property
    def urgent(self) -> bool:
        return self.live and self.kind is not Kind.PARTIAL


class Scheduler:
    """Chooses the next job. Call `update` whenever the demand of a session may have changed.

    Args:
        slots: number of jobs that the recognizer can usefully run at once.
        limits: when another session is accepted.
    """

    def __init__(self, slots: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.partial_limit = PartialLimit(slots)
        self._slots = slots
        self._sessions: dict[str, Session] = {}
        self._requests: dict[str, _Request] = {}
        """The current request of each session, by its key."""
        self._heaps: dict[bool, list[_Request]] = {True: [], False: []}
        """The current requests and some outdated ones, the most urgent first; by whether the session is live."""
        self._served: dict[str, float] = {}
        """When the last decode of each session began that was not live."""
        self._not_live: dict[str, float] = {}
        """When each session was last seen to be not live."""
        self._speaking: set[str] = set()
        """Keys of live sessions that have an utterance without its final."""
        self._running: dict[int, _Running] = {}
        self._ids = itertools.count(1)
        self._orders = itertools.count()
        self._late: deque[tuple[float, float]] = deque(maxlen=MAX_LATE)
        """(when it ended, how long it was) of the latest times that the caller could not act, in seconds."""
        self._ready_since = -math.inf
        """Since when the recognizer is there; infinite while it is being started again."""
        self._final_waits: deque[tuple[float, float]] = deque(maxlen=MAX_FINALS_JUDGED)
        """(when it began, how long it had waited for its slot) of live finals, in seconds."""

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def speaking(self) -> bool:
        """Whether somebody speaks, or waits for a final, in a session that is live."""
        return bool(self._speaking)

    @property
    def final_waits(self) -> bool:
        """Whether a live final or speculative final waits for a slot, and not only for an idle recognizer."""
        return any(request.rank is not Kind.PARTIAL and not request.when_idle for request in self._requests.values())

    def admit(self, now: float) -> None:
        """Check that one more session is accepted.

        Raises:
            Busy: there are too many, or the recognizer is behind.
        """
        if len(self._sessions) >= self.limits.max_sessions:
            raise Busy(f"all {self.limits.max_sessions} sessions are taken; try again later")
        if self.lag_s(now) > self.limits.final_objective_s:
            raise Busy(f"the recognizer is behind by {self.lag_s(now):.1f} s; try again later")

    def add(self, session: Session, now: float) -> None:
        """Accept a session.

        Raises:
            Busy: see `admit`.
        """
        self.admit(now)
        self._sessions[session.key] = session

    def remove(self, session: Session) -> list[int]:
        """Remove a session; returns its jobs in flight, which may be cancelled."""
        self._forget(session)
        return [job for job, running in self._running.items() if running.session is session]

    def update(self, session: Session, now: float) -> None:
        """Look up what the session wants decoded, after it received audio, a command or a result."""
        known = session.key in self._sessions
        demand = session.demand() if known else None
        # Until all is decoded that its client sent ahead, nobody waits for it, however slowly more comes.
        ahead = demand is not None and demand.since <= self._not_live.get(session.key, -1.0)
        live = known and session.live(now) and not ahead
        if known and not live:
            self._not_live[session.key] = now
        if live and session.pending:
            self._speaking.add(session.key)
        else:
            self._speaking.discard(session.key)
        if demand is None:
            self._requests.pop(session.key, None)
            return
        current = self._requests.get(session.key)
        if current is not None and (current.live, current.demand) == (live, demand):
            return
        rank = demand.kind if live else Kind.PARTIAL
        # Of audio that is ahead of its time nobody watches the text grow.
        when_idle = demand.when_idle or (not live and demand.kind is Kind.PARTIAL)
        turn = demand.since if live else max(demand.since, self._served.get(session.key, 0.0)) + AHEAD_S
        request = _Request(when_idle, rank, turn, next(self._orders), session, demand, live)
        self._requests[session.key] = request
        heap = self._heaps[live]
        heapq.heappush(heap, request)
        if len(heap) > 2 * len(self._sessions) + SPARE_REQUESTS:
            heap[:] = [request for request in self._requests.values() if request.live is live]
            heapq.heapify(heap)

    def next_job(self, now: float) -> Chosen | None:
        """The next job to run, if a slot is free for it: live finals first, then the one that has waited longest, where
        sessions that are not live come `AHEAD_S` later than they would, and leave slots free for those that are. What
        is wanted only while the recognizer is idle comes last.

        Raises:
            SessionBroke: the most urgent session failed to make its job. Call again for the next one.
        """
        if len(self._running) >= self._slots:
            return None
        while request := self._most_urgent():
            session = request.session
            heapq.heappop(self._heaps[request.live])
            del self._requests[session.key]
            try:
                job = request.demand.take(next(self._ids), now)
                if not request.live:
                    self._served[session.key] = now
                self.update(session, now)
            except Exception as error:
                self._forget(session)
                raise SessionBroke(session) from error
            if job is None:
                continue
            self._running[job.id] = _Running(session, job.kind, now, request.live)
            if job.kind is Kind.FINAL and request.live:
                self._final_waits.append((now, self._waited_s(request.demand.since, now)))
            return Chosen(session, job, now - request.demand.since)
        return None

    def _most_urgent(self) -> _Request | None:
        """The request to serve next; it is the first of its heap."""
        live, other = self._first(live=True), self._first(live=False)
        if live is None or other is None:
            return live or other
        if live.when_idle or other.when_idle:
            return live if other.when_idle else other
        return live if live.rank is not Kind.PARTIAL or live.turn <= other.turn else other

    def _first(self, *, live: bool) -> _Request | None:
        """The most urgent request of the sessions that are live, or are not, if it may be served now."""
        heap = self._heaps[live]
        while heap and self._requests.get(heap[0].session.key) is not heap[0]:
            heapq.heappop(heap)
        return heap[0] if heap and self._may_run(heap[0]) else None

    def _may_run(self, request: _Request) -> bool:
        partial = request.demand.kind is Kind.PARTIAL
        if partial and self._partials_running() >= self.partial_limit.limit:
            return False
        if request.when_idle and self._others_running(request.session) >= IDLE_SHARE * self._slots:
            return False
        if request.live and not partial:
            return True
        if not self._speaking:
            return True
        if sum(not running.urgent for running in self._running.values()) >= self.partial_limit.limit:
            return False
        not_live = sum(not running.live for running in self._running.values())
        return request.live or not_live < max(1, int(SHARE_OF_OTHERS * self._slots))

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.key, None)
        self._requests.pop(session.key, None)
        self._speaking.discard(session.key)
        self._served.pop(session.key, None)
        self._not_live.pop(session.key, None)

    def finished(self, job: int, now: float) -> Session | None:
        """Free the slot of a job that ended, however it did; returns its session, or None if that was removed."""
        running = self._running.pop(job, None)
        if running is None:
            return None
        if running.kind is Kind.PARTIAL and running.began >= self._ready_since:
            self.partial_limit.observe(now - running.began, now)
        return running.session if running.session.key in self._sessions else None

    def caller_was_late(self, late_s: float, now: float) -> None:
        """The caller could not act for this long, up to now: finals that waited meanwhile waited for it, and not for
        the recognizer. A server that is late itself would else refuse sessions for which there are slots.
        """
        if late_s >= LATE_S:
            self._late.append((now, late_s))

    def recognizer_lost(self) -> None:
        """The recognizer is being started again. What waits until it is back says nothing about how fast it is, and
        refuses no session afterwards.
        """
        self._ready_since = math.inf

    def recognizer_back(self, now: float) -> None:
        """The recognizer has been started again."""
        self._ready_since = now

    def _late_s(self, since: float) -> float:
        """How long the caller was late since then, seconds."""
        return sum(min(late_s, max(0.0, until - since)) for until, late_s in self._late)

    def lag_s(self, now: float) -> float:
        """90th percentile of how long the latest finals waited for a slot, seconds."""
        return _percentile_90(self._recent_waits(now))

    def wait_s(self, now: float) -> float:
        """As `lag_s`, but the live finals that still wait count too, so that it rises while the recognizer hangs. While
        no session is open nobody waits, whatever was measured before.
        """
        if not self._sessions:
            return 0.0
        waiting = [
            self._waited_s(request.demand.since, now)
            for request in self._requests.values()
            if request.rank is Kind.FINAL and not request.when_idle
        ]
        return _percentile_90(self._recent_waits(now) + waiting)

    def _waited_s(self, since: float, now: float) -> float:
        """For how long a live final has waited, without the times that the caller could not act, and not longer than
        the recognizer has been there.
        """
        since = max(since, self._ready_since)
        return max(0.0, now - since - self._late_s(since))

    def _recent_waits(self, now: float) -> list[float]:
        while self._final_waits and self._final_waits[0][0] < now - LATENCY_WINDOW_S:
            self._final_waits.popleft()
        return [wait for _, wait in self._final_waits]

    def _others_running(self, session: Session) -> int:
        return sum(running.session is not session for running in self._running.values())

    def _partials_running(self) -> int:
        return sum(running.kind is Kind.PARTIAL for running in self._running.values())


def _percentile_90(waits: list[float]) -> float:
    """The 90th percentile; 0 of too few."""
    return sorted(waits)[int(0.9 * len(waits))] if len(waits) >= MIN_FINALS_JUDGED else 0.0
