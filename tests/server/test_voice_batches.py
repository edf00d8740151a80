"""Queries of voice detectors: gathered, answered in batches, and kept apart where one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from streaming_asr.server.live.voice_batches import AT_ONCE, VoiceBatcher


@dataclass
class Doubling:
    """A network that answers with twice the number asked; it fails on a batch with a negative one."""

    batches: list[list[int]] = field(default_factory=list)

    def answer(self, queries: Sequence[Number]) -> list[int]:
        numbers = [query.number for query in queries]
        self.batches.append(numbers)
        if min(numbers) < 0:
            raise ArithmeticError("a negative number")
        return [2 * number for number in numbers]


@dataclass
class Number:
    network: Doubling
    number: int


class Asker:
    """Asks, and keeps what comes of it."""

    def __init__(self, batcher: VoiceBatcher) -> None:
        self.answers: list[int] = []
        self.failures: list[int] = []
        self._batcher = batcher
        self._changed = asyncio.Event()

    def ask(self, network: Doubling, *numbers: int) -> None:
        for number in numbers:
            self._batcher.ask(Number(network, number), self._answered, lambda number=number: self._failed(number))

    async def until(self, count: int) -> None:
        """Wait for this many answers and failures."""
        while len(self.answers) + len(self.failures) < count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 5)

    def _answered(self, answer: int) -> None:
        self.answers.append(answer)
        self._changed.set()

    def _failed(self, number: int) -> None:
        self.failures.append(number)
        self._changed.set()


def test_queries_of_one_moment_are_one_batch_and_too_many_are_several() -> None:
    network = Doubling()

    async def script() -> None:
        asker = Asker(VoiceBatcher())
        asker.ask(network, *range(AT_ONCE + 3))
        assert not asker.answers
        await asker.until(AT_ONCE + 3)
        assert asker.answers == [2 * number for number in range(AT_ONCE + 3)]

    asyncio.run(script())
    assert [len(batch) for batch in network.batches] == [AT_ONCE, 3]


def test_a_network_that_fails_costs_the_sessions_that_asked_it_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    network, another = Doubling(), Doubling()

    async def script() -> None:
        asker = Asker(VoiceBatcher())
        asker.ask(network, 1, -1)
        asker.ask(another, 7)
        await asker.until(3)
        assert (asker.answers, asker.failures) == ([14], [1, -1])
        asker.ask(network, 4, 5)
        await asker.until(5)
        assert asker.answers == [14, 8, 10]

    with caplog.at_level(logging.ERROR):
        asyncio.run(script())
    assert len(caplog.records) == 1


def test_a_network_that_leaves_out_answers_has_failed() -> None:
    class Silent(Doubling):
        def answer(self, queries: Sequence[Number]) -> list[int]:
            return []

    async def script() -> None:
        asker = Asker(VoiceBatcher())
        asker.ask(Silent(), 1, 2)
        await asker.until(2)
        assert asker.failures == [1, 2]

    asyncio.run(script())


def test_a_network_that_can_not_be_loaded_fails_the_queries_for_it() -> None:
    class Unloaded:
        @property
        def network(self) -> Doubling:
            raise OSError("the weights are missing")

    async def script() -> None:
        batcher = VoiceBatcher()
        asker = Asker(batcher)
        failed = asyncio.Event()
        batcher.ask(Unloaded(), asker.answers.append, failed.set)
        await asyncio.wait_for(failed.wait(), 5)
        asker.ask(Doubling(), 2)
        await asker.until(1)
        assert asker.answers == [4]

    asyncio.run(script())


def test_a_callback_that_raises_does_not_starve_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def broken(answer: int) -> None:
        raise KeyError(answer)

    async def script() -> None:
        batcher, network = VoiceBatcher(), Doubling()
        asker = Asker(batcher)
        batcher.ask(Number(network, 1), broken, lambda: None)
        asker.ask(network, 2)
        await asker.until(1)
        asker.ask(network, 3)
        await asker.until(2)
        assert asker.answers == [4, 6]

    asyncio.run(script())
    assert len(caplog.records) == 1


def test_an_answer_is_charged_to_those_who_asked() -> None:
    charged: list[tuple[str, float]] = []

    async def asking() -> None:
        batcher, network, answered = VoiceBatcher(), Doubling(), asyncio.Event()
        for name in ("a", "b"):
            batcher.ask(
                Number(network, 1),
                lambda answer: answered.set(),
                lambda: None,
                lambda cost_s, name=name: charged.append((name, cost_s)),  # type: ignore[misc]
            )
        await asyncio.wait_for(answered.wait(), 5)

    asyncio.run(asking())
    (first, cost_s), (second, same_s) = charged
    assert (first, second) == ("a", "b")
    assert cost_s == same_s >= 0
