"""Pauses are judged beside the event loop, within bounds, and silence decides where that fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter

import numpy as np
import pytest

from streaming_asr.core.turn import Pause, TurnQuestion
from streaming_asr.server.live import turn_questions
from streaming_asr.server.live.turn_questions import MOST_WAITING, THREADS, TurnPool

PAUSE = Pause(np.zeros(16_000, np.float32), 200, "", None)


class SlowTurns:
    """Answers once the test allows it."""

    asks_at_ms = (200,)

    def __init__(self, probability: float = 0.5) -> None:
        self.may_answer = threading.Event()
        self.asked = threading.Semaphore(0)
        self.threads: set[int] = set()
        self._probability = probability

    def probability(self, pause: Pause) -> float:
        self.threads.add(threading.get_ident())
        self.asked.release()
        assert self.may_answer.wait(10)
        return self._probability


class Asker:
    def __init__(self, overloaded: bool = False) -> None:
        self.outcomes: Counter[str] = Counter()
        self.answers: list[float] = []
        self.overloaded = overloaded
        self.pool = TurnPool(lambda: self.overloaded, self._counted)
        self._changed = asyncio.Event()

    def ask(self, detector: SlowTurns, times: int = 1) -> None:
        for number in range(times):
            self.pool.ask(TurnQuestion(0, number, detector, PAUSE), self.answers.append)

    async def until(self, count: int) -> None:
        """Wait for this many outcomes."""
        while self.outcomes.total() < count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10)

    def _counted(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self._changed.set()


def test_the_event_loop_goes_on_while_a_pause_is_judged() -> None:
    async def script() -> None:
        asker, turns = Asker(), SlowTurns(0.8)
        asker.ask(turns)
        await asyncio.to_thread(turns.asked.acquire)
        assert not asker.answers
        turns.may_answer.set()
        await asker.until(1)
        assert asker.answers == [0.8]
        assert threading.get_ident() not in turns.threads
        asker.pool.close()

    asyncio.run(script())


def test_no_more_than_a_bounded_number_waits() -> None:
    async def script() -> None:
        asker, turns = Asker(), SlowTurns()
        asker.ask(turns, MOST_WAITING + 3)
        assert asker.outcomes == {"dropped": 3}
        turns.may_answer.set()
        await asker.until(MOST_WAITING + 3)
        assert asker.outcomes["answered"] >= 1
        assert len(turns.threads) <= THREADS
        asker.ask(turns)
        await asker.until(MOST_WAITING + 4)
        asker.pool.close()

    asyncio.run(script())


def test_nothing_is_asked_while_finals_wait() -> None:
    async def script() -> None:
        asker, turns = Asker(overloaded=True), SlowTurns()
        asker.ask(turns)
        assert asker.outcomes == {"dropped": 1}
        asker.overloaded = False
        turns.may_answer.set()
        asker.ask(turns)
        await asker.until(2)
        assert asker.outcomes == {"dropped": 1, "answered": 1}
        asker.pool.close()

    asyncio.run(script())


def test_an_answer_that_takes_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_questions, "LATE_S", 0.0)
    computed = SlowTurns()

    async def script() -> None:
        asker = Asker()
        computed.may_answer.set()
        asker.ask(computed)
        await asker.until(1)
        assert (asker.outcomes, asker.answers) == ({"late": 1}, [])
        asker.pool.close()

    asyncio.run(script())


class FailingTurns(SlowTurns):
    fails = True

    def probability(self, pause: Pause) -> float:
        if self.fails:
            raise ArithmeticError("a fault of the network")
        return 0.5


def test_a_detector_that_fails_is_reported_once_until_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        asker, turns = Asker(), FailingTurns()
        for asked in range(3):
            asker.ask(turns)
            await asker.until(asked + 1)
        assert len(caplog.records) == 1
        turns.fails = False
        asker.ask(turns)
        await asker.until(4)
        turns.fails = True
        asker.ask(turns)
        await asker.until(5)
        assert asker.outcomes == {"failed": 4, "answered": 1}
        asker.pool.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(script())
    assert len(caplog.records) == 2
    assert "FailingTurns failed" in caplog.text


@pytest.mark.parametrize("probability", [float("nan"), 1.5, -0.1])
def test_an_answer_that_is_not_a_probability_is_a_failure(probability: float) -> None:
    async def script() -> None:
        asker, turns = Asker(), SlowTurns(probability)
        turns.may_answer.set()
        asker.ask(turns)
        await asker.until(1)
        assert (asker.outcomes, asker.answers) == ({"failed": 1}, [])
        asker.pool.close()

    asyncio.run(script())


def test_after_the_close_nothing_is_answered() -> None:
    async def script() -> None:
        asker, turns = Asker(), SlowTurns()
        asker.ask(turns)
        await asyncio.to_thread(turns.asked.acquire)
        asker.pool.close()
        turns.may_answer.set()
        asker.ask(turns)
        await asyncio.sleep(0)
        assert not asker.answers

    asyncio.run(script())


def test_a_detector_loads_before_it_is_needed_and_one_that_fails_does_not_stop_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script() -> None:
        asker, turns = Asker(), SlowTurns()
        turns.may_answer.set()
        await asker.pool.warm_up(turns)
        assert turns.threads
        assert threading.get_ident() not in turns.threads
        await asker.pool.warm_up(FailingTurns())
        assert not asker.outcomes
        asker.pool.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(script())
    assert "FailingTurns failed on silence" in caplog.text
