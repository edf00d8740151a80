"""Voice detection of all connections: what they ask at the same time is answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streaming_asr.voice.silero import Ask, network

GATHER_S = 0.01
"""How long the first of several waits for the others: little beside a frame of 32 ms, and a pause of half a second."""
AT_ONCE = 64
"""Asks answered together; more would keep the event loop for too long."""

Then = Callable[[list[float]], None]
"""Takes the answer. Must not raise."""


class Ears:
    """Lives on one event loop. Who asks alone is answered at once; while others ask too, company is waited for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Ask, Then]] = []
        self._busy = False

    def ask(self, ask: Ask, then: Then) -> None:
        """Have a question answered, later in this turn of the loop at the soonest."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(GATHER_S if self._busy else 0, self._answer)
        self._waiting.append((ask, then))

    def _answer(self) -> None:
        answered, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._busy = len(answered) > 1
        answers = network().answer([ask for ask, _ in answered])
        for (_, then), answer in zip(answered, answers, strict=True):
            then(answer)
