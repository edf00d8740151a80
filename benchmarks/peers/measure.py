"""One server after the other, in rounds: none has the machine to itself at its best hour only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.common.protocols.connection import WebSocketAdapter
from benchmarks.common.protocols.registry import Target, make_adapter
from benchmarks.common.session_log import Outcome
from benchmarks.load.crowd import Plan
from benchmarks.load.results import held
from benchmarks.load.search import Search
from benchmarks.load.server_side import metrics_url
from benchmarks.load.speaking import Manner
from benchmarks.load.trial import Trial, Trials
from benchmarks.load.utterances import Utterance
from benchmarks.peers.figures import Result
from benchmarks.peers.peer import Peer, PeerUnavailable, Place
from benchmarks.peers.server import READY_WITHIN_S, free_port, running

SETTLE_S = 2.0
"""Between the runs with one server, for what an overloaded one has still to do."""


@dataclass(frozen=True, slots=True)
class Course:
    """What each server is put through."""

    speech: Sequence[Utterance]
    """Shared out over the rounds."""
    warm_up: Sequence[Utterance]
    """Spoken first after each start, and not counted."""
    streams: Sequence[int] = (1,)
    rounds: int = 1
    search: bool = False
    """Whether to look for the most streams within the objective, in the last round."""
    search_s: float = 30.0
    """How long each number of streams is tried at least."""
    objective_s: float = 2.0
    max_streams: int = 64
    patience_s: float = 30.0
    ready_within_s: float = READY_WITHIN_S

    def turn(self, round_number: int) -> list[Utterance]:
        """What is spoken in a round, from 0 on."""
        return list(self.speech[round_number :: self.rounds])


@dataclass
class Standing:
    """A peer and all that is known of it so far."""

    peer: Peer
    place: Place
    results: dict[int, Result] = field(default_factory=dict)
    """By streams."""
    search: Search | None = None
    unavailable: str = ""
    """Why it ended early: the reason with the last lines of its log."""
    versions: Sequence[str] = ()


async def measure(
    standings: Sequence[Standing], course: Course, logs: Path, console: Console, progress: Console | None = None
) -> None:
    """Fill in the results; a peer whose server does not start is reported and left out from then on."""
    for number in range(course.rounds):
        for standing in standings:
            if standing.unavailable:
                continue
            console.print(f"Round {number + 1} of {course.rounds}: {standing.peer.title}")
            try:
                await _one_round(standing, course, number, logs, progress)
            except PeerUnavailable as reason:
                standing.unavailable = str(reason)
                console.print(f"{standing.peer.title}: {reason}", markup=False)


async def _one_round(standing: Standing, course: Course, number: int, logs: Path, progress: Console | None) -> None:
    place = standing.place
    port = free_port()
    place = Place(place.python, place.folder, port, place.weights, place.speech)
    adapter = make_adapter(standing.peer.protocol, Target(f"ws://127.0.0.1:{port}"))
    log = logs / f"{standing.peer.name}.log"
    command = standing.peer.command(place)
    home = place.folder / "home"
    variables = standing.peer.variables
    async with running(
        command, adapter, log=log, home=home, variables=variables, ready_within_s=course.ready_within_s
    ) as pid:
        make = _maker(adapter, pid, progress)
        await make(course.warm_up).run(_plan(course, 1))
        for streams in course.streams:
            result = standing.results.setdefault(streams, Result(streams))
            add(result, await make(course.turn(number)).run(_plan(course, streams)))
        if course.search and number == course.rounds - 1:
            standing.search = await _search(make(course.speech), course)


def add(result: Result, trial: Trial) -> None:
    """Take a round's sessions and costs into a result."""
    result.takes += trial.run.measured()
    result.audio_s += trial.audio_s
    process: Mapping[str, float | None] = trial.process or {}
    result.cpu_s += process.get("cpu_s") or 0.0
    result.rss_mib = max(result.rss_mib, process.get("rss_mib_max") or 0.0)
    if trial.invalid_because:
        result.invalid.append(trial.invalid_because)


def _maker(adapter: WebSocketAdapter, pid: int, progress: Console | None) -> Callable[[Sequence[Utterance]], Trials]:
    def make(speech: Sequence[Utterance]) -> Trials:
        return Trials(adapter, speech, metrics_url=metrics_url(adapter.url), server_pid=pid, console=progress)

    return make


def _plan(course: Course, streams: int) -> Plan:
    return Plan(streams, ramp_s=None if streams > 1 else 0.0, manner=Manner(patience_s=course.patience_s))


async def _search(trials: Trials, course: Course) -> Search:
    """The most streams at once whose sessions all become final, p95 within the objective."""
    search = Search(1, course.max_streams)
    while (streams := search.next()) is not None:
        await asyncio.sleep(SETTLE_S)
        longest = max(utterance.duration_s for utterance in course.speech)
        plan = Plan(streams, max(course.search_s, longest), manner=Manner(patience_s=course.patience_s))
        trial = await trials.run(plan)
        if trial.invalid_because:
            break
        search.found(streams, held=held(trial, course.objective_s) and _all_became_final(trial))
    return search


def _all_became_final(trial: Trial) -> bool:
    logs = [take.log for take in trial.run.measured() if take.log.outcome is Outcome.DONE]
    return all(log.shown and not log.shown[-1].partial.strip() for log in logs)
