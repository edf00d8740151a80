"""Which recordings are transcribed at once: clients take turns, each with as many of the slots as any other.

Max-min fairness with time slices: a slot goes to the client that has the fewest of them, and a client that has two
more than one that waits gives one up at once. Where shares can't be equal, the client with one slot more gives it up
after `TURN_S`. A recording that lost its slot is paused, and goes on when its client has its next turn.

Sans-IO: the event loop and the clock are in `recording_slots.py`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto

TURN_S = 5.0
"""How long a recording has its slot at least, before that goes to a client with one slot less."""
MAX_PAUSED = 16
"""Recordings that may be paused, each of which keeps its decoder's process. Beyond, no further one is started."""
MAX_PAUSED_OF_FURTHER = 8
"""The same for clients that have one started already: the rest is for the first recordings of others."""


class TurnState(Enum):
    """``WAITING -> RUNNING <-> PAUSED``; `ENDED` comes after each of them."""

    WAITING = auto()
    """It was not started."""
    RUNNING = auto()
    PAUSED = auto()
    """It was started, and has no slot now."""
    ENDED = auto()


_TRANSITIONS = {
    TurnState.WAITING: {TurnState.RUNNING, TurnState.ENDED},
    TurnState.RUNNING: {TurnState.PAUSED, TurnState.ENDED},
    TurnState.PAUSED: {TurnState.RUNNING, TurnState.ENDED},
    TurnState.ENDED: set(),
}


@dataclass(eq=False)
class Turn:
    """One recording."""

    client: str
    order: int
    """Of its arrival."""
    state: TurnState = TurnState.WAITING
    since: float = 0.0
    """When it got its slot, seconds."""

    def enter(self, state: TurnState) -> None:
        assert state in _TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state


class FairTurns:
    """Gives slots to recordings. Call `schedule` after each `join` and `leave`, and when it says.

    Args:
        at_once: number of slots.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._turns: list[Turn] = []
        """In the order of their arrival."""
        self._orders = itertools.count(1)
        self._served: dict[str, int] = {}
        """When each client with a recording here got its latest slot, in the order of `_orders`."""

    def join(self, client: str) -> Turn:
        """A recording is ready to be transcribed.

        Args:
            client: that it is counted for.
        """
        turn = Turn(client, next(self._orders))
        self._turns.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """A recording has ended, or its client has disconnected."""
        turn.enter(TurnState.ENDED)
        self._turns.remove(turn)
        if all(other.client != turn.client for other in self._turns):
            self._served.pop(turn.client, None)

    def count(self, state: TurnState) -> int:
        """How many recordings are in a state."""
        return len(self._of(state))

    def schedule(self, now: float) -> float | None:
        """Start, pause and resume recordings.

        Args:
            now: of any clock that never goes back, seconds.

        Returns:
            When to call this again, unless something changes before; None: not at all.
        """
        while (candidate := self._next()) is not None:
            if self.count(TurnState.RUNNING) >= self._at_once:
                victim, at = self._victim(candidate)
                if victim is None or at > now:
                    return at if victim is not None else None
                victim.enter(TurnState.PAUSED)
            candidate.enter(TurnState.RUNNING)
            candidate.since = now
            self._served[candidate.client] = next(self._orders)
        return None

    def _next(self) -> Turn | None:
        """The recording that gets the next slot: of the client that has the fewest slots; of several clients, of the
        one that has waited longest since it got its last one, or since its recording came.
        """
        running = self._running()
        candidates: dict[str, Turn] = {}
        # A client's paused recordings go first, so that it never has more of them started than there are slots.
        for turn in self._of(TurnState.PAUSED):
            candidates.setdefault(turn.client, turn)
        paused = self.count(TurnState.PAUSED)
        full = running.total() >= self._at_once
        for turn in self._of(TurnState.WAITING):
            most = MAX_PAUSED_OF_FURTHER if running[turn.client] else MAX_PAUSED
            if turn.client not in candidates and not (full and paused >= most):
                candidates[turn.client] = turn
        return min(
            candidates.values(),
            key=lambda turn: (running[turn.client], max(turn.order, self._served.get(turn.client, 0))),
            default=None,
        )

    def _victim(self, candidate: Turn) -> tuple[Turn | None, float]:
        """The recording whose slot the candidate gets, and when, seconds; None if it waits until one is free."""
        running = self._running()
        have = running[candidate.client]
        most = max(running.values())
        if most >= have + 2:
            # Of its recordings, those that came first are ready first.
            return [turn for turn in self._of(TurnState.RUNNING) if running[turn.client] == most][-1], -math.inf
        longest = min(
            (turn for turn in self._of(TurnState.RUNNING) if running[turn.client] > have),
            key=lambda turn: turn.since,
            default=None,
        )
        return longest, longest.since + TURN_S if longest is not None else 0.0

    def _of(self, state: TurnState) -> list[Turn]:
        return [turn for turn in self._turns if turn.state is state]

    def _running(self) -> Counter[str]:
        return Counter(turn.client for turn in self._of(TurnState.RUNNING))
