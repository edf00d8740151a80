"""The places of recordings that are received or wait, and the slots of those that are transcribed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.openai_http.answers import ApiError
from streaming_asr.server.openai_http.fair_turns import FairTurns, Turn, TurnState

MAX_WAITING_AT_ADDRESS, MAX_WAITING = 64, 128
"""Requests of one address, and of all, that may be read or wait, besides those that fill the slots."""

OwnTurn = Callable[[], Awaitable[None]]
"""Returns when it is the recording's turn: at once while it has a slot, else when it has one again."""


class RecordingSlots:
    """Limits how many recordings are received, and how many are transcribed at once, in all and of one client.

    Args:
        at_once: recordings that are transcribed at once. Clients share them, see `FairTurns`.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._turns = FairTurns(at_once)
        self._resumed: dict[Turn, asyncio.Event] = {}
        """Set while the turn has a slot."""
        self._timer: asyncio.TimerHandle | None = None
        self._places: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Recordings that are complete and were not started."""
        return self._turns.count(TurnState.WAITING)

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """A place for a request, from its beginning to its end.

        Args:
            client: that it is counted for.

        Raises:
            ApiError: all are taken, or all that the client may have.
        """
        if self._places.total() >= self._at_once + MAX_WAITING:
            raise ApiError.of(FailureKind.BUSY, "Too many recordings wait to be transcribed; try again later.")
        if self._places[client] >= self._at_once + MAX_WAITING_AT_ADDRESS:
            message = "Too many recordings from your address wait to be transcribed; try again later."
            raise ApiError.of(FailureKind.BUSY, message)
        self._places[client] += 1
        try:
            yield
        finally:
            self._places[client] -= 1
            if not self._places[client]:
                del self._places[client]

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[OwnTurn]:
        """A slot for a request whose body is complete. It may be given to another client for a while; the recording
        should be worked on only after its turn was awaited.

        Args:
            client: that it is counted for.
        """
        turn = self._turns.join(client)
        self._resumed[turn] = asyncio.Event()

        async def own_turn() -> None:
            # It may be lost again before this task runs.
            while turn.state is not TurnState.RUNNING:
                await self._resumed[turn].wait()

        try:
            self._schedule()
            await own_turn()
            yield own_turn
        finally:
            del self._resumed[turn]
            self._turns.leave(turn)
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        again = self._turns.schedule(loop.time())
        if again is not None:
            self._timer = loop.call_at(again, self._schedule)
        for turn, resumed in self._resumed.items():
            if turn.state is TurnState.RUNNING:
                resumed.set()
            else:
                resumed.clear()
