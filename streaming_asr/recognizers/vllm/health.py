"""The states of an engine, and how often a dead one is started again. Needs no vLLM."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streaming_asr.core.recognizer import Health


class State(enum.Enum):
    """Of an engine.

        STARTING --started--> READY --engine died--> RESTARTING --started--> READY
                                                     RESTARTING --died too often--> FAILED
        any --close--> CLOSED

    An engine that can't be started the first time stays STARTING until it is closed.
    """

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    CLOSED = "closed"

    @property
    def health(self) -> Health | None:
        """What the recognizer reports on entering the state; None where there is nothing to report."""
        return _HEALTH.get(self)


_HEALTH = {State.READY: Health.READY, State.RESTARTING: Health.RECOVERING, State.FAILED: Health.FAILED}

TRANSITIONS: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.READY, State.CLOSED}),
    State.READY: frozenset({State.RESTARTING, State.CLOSED}),
    State.RESTARTING: frozenset({State.READY, State.FAILED, State.CLOSED}),
    State.FAILED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""The states that may follow each state."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often, and after which waits, a dead engine is started again."""

    most: int = 5
    """Starts within `within_s` after which the engine is given up."""
    within_s: float = 900.0
    first_wait_s: float = 0.5
    """Before the first start; doubled each time."""
    longest_wait_s: float = 30.0
