"""Voice detection of all connections: queries that come at the same time are answered in one batch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from streaming_asr.core.voice import Query

logger = logging.getLogger(__name__)

GATHER_S = 0.01
"""How long the first of several waits for the others: little beside a frame of 32 ms, and a pause of half a second."""
AT_ONCE = 64
"""Queries answered together; more would keep the event loop for too long."""


class _Asked(NamedTuple):
    query: Query
    on_answer: Callable[[Any], None]
    on_failure: Callable[[], None]
    charge: Callable[[float], None] | None


class VoiceBatcher:
    """Lives on one event loop. A query that comes alone is answered at once; while several come, they are gathered."""

    def __init__(self) -> None:
        self._waiting: list[_Asked] = []
        self._busy = False

    def ask(
        self,
        query: Query,
        on_answer: Callable[[Any], None],
        on_failure: Callable[[], None],
        charge: Callable[[float], None] | None = None,
    ) -> None:
        """Have a query answered, in the next iteration of the event loop at the soonest.

        Args:
            on_answer: is called with the network's answer.
            on_failure: is called instead if the network fails.
            charge: is called with the processor time that the answer took, seconds.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_later(GATHER_S if self._busy else 0, self._answer)
        self._waiting.append(_Asked(query, on_answer, on_failure, charge))

    def _answer(self) -> None:
        batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._busy = len(batch) > 1
        try:
            groups = _by_network(batch)
        except Exception:
            logger.exception("A network of voice detection could not be loaded")
            _fail(batch)
            return
        for group in groups:
            self._answer_together(group)

    def _answer_together(self, batch: Sequence[_Asked]) -> None:
        """Answer queries for one network. A fault of the network, or of a callback, ends here: others go on."""
        began = time.thread_time()
        try:
            answers = batch[0].query.network.answer([asked.query for asked in batch])
            if len(answers) != len(batch):
                raise ValueError(f"the network gave {len(answers)} answers to {len(batch)} queries")
        except Exception:
            logger.exception("A network of voice detection failed on %d queries", len(batch))
            _fail(batch)
            return
        cost_s = (time.thread_time() - began) / len(batch)
        for asked, answer in zip(batch, answers, strict=True):
            if asked.charge is not None:
                _call(asked.charge, cost_s)
            _call(asked.on_answer, answer)


def _by_network(batch: Sequence[_Asked]) -> Iterable[Sequence[_Asked]]:
    network = batch[0].query.network
    if all(asked.query.network is network for asked in batch):
        return (batch,)
    groups: dict[int, list[_Asked]] = {}
    for asked in batch:
        groups.setdefault(id(asked.query.network), []).append(asked)
    return groups.values()


def _fail(batch: Iterable[_Asked]) -> None:
    for asked in batch:
        _call(asked.on_failure)


def _call(callback: Callable[..., None], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except Exception:
        logger.exception("What takes an answer of voice detection failed")
