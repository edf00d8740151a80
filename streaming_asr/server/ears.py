"""Voice detection of all connections: what they ask at the same time is answered together."""

from __future__ import annotations

import asyncio

from streaming_asr.silero import Ask, Asking, R, network

GATHER_S = 0.01
"""How long the first of several waits for the others: little beside a frame of 32 ms, and a pause of half a second."""
AT_ONCE = 64
"""Asks answered together; more would keep the event loop for too long."""


class Ears:
    """Lives on one event loop. Who asks alone is answered at once; while others ask too, company is waited for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Ask, asyncio.Future[list[float]]]] = []
        self._busy = False

    async def answered(self, asking: Asking[R]) -> R:
        """What it returns, its asks answered."""
        loop = asyncio.get_running_loop()
        try:
            ask = next(asking)
            while True:
                future: asyncio.Future[list[float]] = loop.create_future()
                if not self._waiting:
                    loop.call_later(GATHER_S if self._busy else 0, self._answer)
                self._waiting.append((ask, future))
                ask = asking.send(await future)
        except StopIteration as end:
            result: R = end.value
            return result

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        wanted = [(ask, future) for ask, future in waiting if not future.cancelled()]
        if not wanted:
            return
        self._busy = len(wanted) > 1
        for (_, future), answer in zip(wanted, network().answer([ask for ask, _ in wanted]), strict=True):
            future.set_result(answer)
