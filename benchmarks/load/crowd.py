"""Many streams at once: each speaks one utterance after the other, in a new session each, for as long as the run lasts.

A stream is one person: the next utterance begins when the session before it has ended. So never more sessions are open
than there are streams, and a server that is late with its finals gets a little less audio; the report says how much.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common.adapters import Adapter
from benchmarks.common.session_log import Outcome, SessionLog
from benchmarks.load.pacing import Clock, WallClock
from benchmarks.load.speaking import Manner, Take, speak
from benchmarks.load.utterances import Utterance

AFTER_FAILURE_S = 1.0
"""Before a stream whose session was refused or failed tries again: a person would not hammer either."""
LONGEST_STAGGER_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does."""

    streams: int
    duration_s: float | None = None
    """For how long new sessions count, from when all streams speak; None speaks each utterance once."""
    ramp_s: float | None = None
    """Over how long the streams begin; None spreads them over an utterance's length, so that they are not in phase."""
    seed: int = 0
    manner: Manner = field(default_factory=Manner)


@dataclass
class Run:
    """What has happened so far; read while it goes on, to show progress."""

    plan: Plan
    wanted: int
    """Utterances to speak, where each is spoken once."""
    takes: list[Take] = field(default_factory=list)
    """In the order in which they began."""
    open: int = 0
    """Sessions under way."""
    full_s: float = 0.0
    """When the last stream begins, on the clock of the run."""
    took_s: float = 0.0
    interrupted: bool = False
    """Whether it was ended before its time."""

    def outcomes(self) -> Counter[Outcome]:
        """Of the sessions that have ended."""
        return Counter(take.log.outcome for take in self.takes if take.ended)

    def measured(self) -> list[Take]:
        """The sessions that count."""
        return [take for take in self.takes if take.ended and take.measured]

    def load(self) -> float:
        """Seconds of audio sent per second and stream while all streams spoke: 1 is what was wished."""
        wanted = self.took_s - self.full_s
        if self.plan.duration_s is not None:
            wanted = min(wanted, self.plan.duration_s)
        if wanted <= 0:
            return 0.0
        sent = 0.0
        for take in self.takes:
            if take.departures.left_s:
                start = take.began_s + take.open_s
                end = start + take.departures.left_s[-1]
                sent += max(0.0, min(end, self.full_s + wanted) - max(start, self.full_s))
        return sent / wanted / self.plan.streams


class Crowd:
    """A run in progress.

    Args:
        utterances: at least one.
    """

    def __init__(
        self, adapter: Adapter, utterances: Sequence[Utterance], plan: Plan, *, clock: Clock | None = None
    ) -> None:
        self._adapter = adapter
        self._utterances = utterances
        self._plan = plan
        self._clock = clock or WallClock()
        self._offsets = _offsets(plan, utterances)
        self.run = Run(plan, len(utterances), full_s=max(self._offsets))
        self._once = deque(utterances)
        """What is still to be spoken, where each utterance is spoken once."""
        self._pending = 0
        """Sessions that count and have not ended."""
        self._over = asyncio.Event()

    def stop(self) -> None:
        """End the run now: sessions under way are dropped."""
        self.run.interrupted = True
        self._over.set()

    async def speak(self) -> Run:
        """Carry the plan out."""
        began = self._clock.now()
        streams = [asyncio.create_task(self._stream(number, began)) for number in range(self._plan.streams)]
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(self._over.wait()), asyncio.create_task(_all(streams))]
        try:
            for ended in (await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED))[0]:
                ended.result()
        finally:
            for task in (*ends, *streams):
                task.cancel()
            await asyncio.gather(*ends, *streams, return_exceptions=True)
        self.run.took_s = self._clock.now() - began
        return self.run

    async def _stream(self, number: int, began: float) -> None:
        await self._clock.until(began + self._offsets[number])
        for utterance in self._turns(number):
            now = self._clock.now() - began
            if self._plan.duration_s is not None and now >= self.run.full_s + self._plan.duration_s:
                # Streams speak on, uncounted, until those that count have ended under the same load.
                if not self._pending:
                    self._over.set()
                    return
                counts = False
            else:
                counts = self._plan.duration_s is None or now + utterance.duration_s > self.run.full_s
            take = Take(SessionLog(utterance.clip.id, len(self.run.takes)), number, utterance, now, counts)
            self.run.takes.append(take)
            await self._speak(take)
            if take.log.outcome is not Outcome.DONE:
                await self._clock.until(self._clock.now() + AFTER_FAILURE_S)

    async def _speak(self, take: Take) -> None:
        self.run.open += 1
        self._pending += take.measured
        try:
            await speak(self._adapter, take, self._plan.manner, self._clock)
        finally:
            self.run.open -= 1
            self._pending -= take.measured

    def _turns(self, number: int) -> Iterator[Utterance]:
        if self._plan.duration_s is None:
            while self._once:
                yield self._once.popleft()
            return
        order = random.Random(f"{self._plan.seed} order {number}")
        turns = [_shuffled(of_set, order) for of_set in by_set(self._utterances).values()]
        # Streams begin with different sets, so that all kinds of speech are spoken at any time.
        for place in itertools.count(number):
            yield next(turns[place % len(turns)])


def by_set(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    """The utterances of each set, in their order."""
    found: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        found.setdefault(utterance.clip.of_set, []).append(utterance)
    return found


def _shuffled(utterances: Sequence[Utterance], order: random.Random) -> Iterator[Utterance]:
    """All of them in a random order, again and again."""
    while True:
        yield from order.sample(utterances, len(utterances))


async def _all(streams: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*streams)


def _offsets(plan: Plan, utterances: Sequence[Utterance]) -> list[float]:
    """When each stream begins, in seconds; the same for the same plan."""
    usual = sum(utterance.duration_s for utterance in utterances) / len(utterances)
    span = plan.ramp_s if plan.ramp_s is not None else min(usual, LONGEST_STAGGER_S)
    chance = random.Random(f"{plan.seed} stagger")
    return [(number + chance.random()) * span / plan.streams for number in range(plan.streams)]
