"""Fakes for tests of the core: a detector and a recognizer whose every answer is known, and simulated time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.events import EndReason, Event, Final, Partial, SpeechEnded, SpeechStarted
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Audio,
    Capabilities,
    DecodeFailed,
    DecodeJob,
    Hypothesis,
    Kind,
)
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session
from streaming_asr.core.voice import Detection

FRAME = 320
"""Samples of the fake detector's decisions, 20 ms."""
TOKEN = SAMPLE_RATE // 4
"""Samples that the fake recognizer makes one word of."""

CAPABILITIES = Capabilities(
    name="fake", model="fake", device="paper", concurrency=2, max_audio_s=30.0, languages=("en", "de")
)


class FakeDetector:
    """A frame is voiced when its loudest sample is above a tenth."""

    frame_samples = FRAME

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        yield from ()
        return np.abs(frames).max(axis=1, initial=0) > 0.1

    def reset(self) -> None:
        pass


class AskingDetector(FakeDetector):
    """Decides as `FakeDetector` does, once a network has answered."""

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        yield NothingToSay()
        return (yield from super().detect(frames))


class NothingToSay:
    """A query whose answer does not matter, and the network that answers it."""

    @property
    def network(self) -> NothingToSay:
        return self

    def answer(self, queries: Sequence[NothingToSay]) -> list[None]:
        return [None] * len(queries)


def spell(audio: Audio) -> tuple[str, ...]:
    """What the fake recognizer reads: a word for each quarter of a second, determined by its samples alone."""
    words = (audio[start : start + TOKEN] for start in range(0, len(audio) - TOKEN + 1, TOKEN))
    return tuple(f" w{int(np.abs(word).sum() * 10) % 1000}" for word in words)


def read(job: DecodeJob) -> Hypothesis:
    """The fake recognizer's hypothesis, the forced prefix kept."""
    pieces = spell(job.audio)
    tokens = tuple(int(piece[2:]) for piece in pieces)
    kept = len(job.prefix)
    tokens = job.prefix + tokens[kept:]
    return Hypothesis(
        tokens=tokens, pieces=tuple(f" w{token}" for token in tokens), language="en", language_probability=1.0
    )


def speech(seconds: float, seed: int = 0) -> Audio:
    """Loud noise, which the fake detector takes for speech."""
    samples = np.random.default_rng(seed).uniform(0.2, 0.9, round(seconds * SAMPLE_RATE))
    return (samples * np.resize([1, -1], len(samples))).astype(np.float32)


def silence(seconds: float) -> Audio:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def make_session(
    options: SessionOptions | None = None,
    capabilities: Capabilities = CAPABILITIES,
    key: str = "s",
    *,
    head_start: bool = True,
) -> Session:
    options = replace(options or SessionOptions(), encoding=Encoding.F32LE)
    return Session(key, options, capabilities, lambda _: FakeDetector(), head_start=head_start)


@dataclass
class Simulation:
    """Sessions, a scheduler and a recognizer in simulated time: decodes take as long as `latency` says.

    Args:
        latency: seconds that a job takes.
        answer: makes the hypothesis, or the failure.
    """

    latency: Callable[[DecodeJob], float] = lambda job: 0.1
    answer: Callable[[DecodeJob], Hypothesis | DecodeFailed] = read
    slots: int = 2
    now: float = 0.0
    events: dict[str, list[tuple[float, Event]]] = field(default_factory=dict)
    jobs: list[tuple[float, DecodeJob]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.slots)
        self._due: list[tuple[float, int, Session, DecodeJob]] = []
        self._order = itertools.count()
        self._cancelled: set[int] = set()

    def add(self, session: Session) -> Session:
        self.scheduler.add(session, self.now)
        self.events[session.key] = []
        return session

    def deliver(self, session: Session, events: Sequence[Event]) -> None:
        """Record the events that a session returned at `now`, and start jobs."""
        self.events[session.key] += [(self.now, event) for event in events]
        self._cancelled.update(session.take_superseded())
        self.scheduler.update(session, self.now)
        self._fill()

    def run_until(self, time: float) -> None:
        """Finish the decodes that are due by then."""
        while self._due and self._due[0][0] <= time:
            self.now, _, session, job = heapq.heappop(self._due)
            owner = self.scheduler.finished(job.id, self.now)
            if owner is None or job.id in self._cancelled:
                self._fill()
                continue
            outcome = self.answer(job)
            if isinstance(outcome, Hypothesis):
                self.deliver(session, session.complete(job.id, outcome, self.now))
            else:
                self.deliver(session, session.fail(job.id, outcome, self.now))
        self.now = max(self.now, time)

    def finish(self) -> None:
        """Finish all decodes, however long they take."""
        while self._due:
            self.run_until(self._due[0][0])

    def stream(self, session: Session, audio: Audio, chunk: int = 1600, *, paced: bool = True) -> None:
        """Feed audio, at real time or all at one moment."""
        for start in range(0, len(audio), chunk):
            piece = audio[start : start + chunk]
            if paced:
                self.run_until(self.now + len(piece) / SAMPLE_RATE)
            self.deliver(session, session.receive(piece.tobytes(), self.now))

    def stop(self, session: Session) -> None:
        self.deliver(session, session.stop(self.now))
        self.finish()

    def of(self, session: Session, kind: type[Event]) -> list[Event]:
        return [event for _, event in self.events[session.key] if isinstance(event, kind)]

    def finals(self, session: Session) -> list[Final]:
        return [event for _, event in self.events[session.key] if isinstance(event, Final)]

    def _fill(self) -> None:
        while chosen := self.scheduler.next_job(self.now):
            self.jobs.append((self.now, chosen.job))
            due = self.now + self.latency(chosen.job)
            heapq.heappush(self._due, (due, next(self._order), chosen.session, chosen.job))


def check_invariants(events: Sequence[Event]) -> None:
    """Check what must hold of any session's events, in the order they were returned."""
    finals = [event.utterance for event in events if isinstance(event, Final)]
    ended = [event.utterance for event in events if isinstance(event, SpeechEnded)]
    assert len(set(finals)) == len(finals), "an utterance has two finals"
    assert set(finals) <= set(ended), "a final came before its utterance ended"
    stable: dict[int, str] = {}
    revisions: dict[int, int] = {}
    done: set[int] = set()
    continued: set[int] = set()
    """Channels whose next utterance must have begun."""
    for event in events:
        if isinstance(event, SpeechStarted):
            continued.discard(event.channel)
        elif isinstance(event, SpeechEnded):
            assert event.channel not in continued, "nothing continues an utterance that was cut"
            if event.reason is EndReason.LENGTH:
                continued.add(event.channel)
        elif isinstance(event, Partial):
            assert event.utterance not in done, "a partial came after its final"
            assert event.stable.startswith(stable.get(event.utterance, "")), "stable text was taken back"
            assert event.revision >= revisions.get(event.utterance, 0)
            stable[event.utterance] = event.stable
            revisions[event.utterance] = event.revision
        elif isinstance(event, Final):
            done.add(event.utterance)
    assert not continued, "nothing continues an utterance that was cut"


__all__ = ["CAPABILITIES", "FRAME", "FakeDetector", "Kind", "Simulation", "check_invariants", "make_session", "read"]
