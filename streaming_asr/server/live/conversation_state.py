"""The states of a conversation, and which may follow which."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What a conversation waits for."""

    OPEN = enum.auto()
    """The next message."""
    WAITING_FOR_DECODER = enum.auto()
    """The audio of a file that the client sends; see `Intake.blocked`."""
    WAITING_FOR_VOICE = enum.auto()
    """The answer to a query of the voice detector."""
    FULL = enum.auto()
    """A final, which frees some of the audio held."""
    YIELDING = enum.auto()
    """`resume`, after other clients have had their turn."""
    CLAIMING = enum.auto()
    """`claim_failed`, or the end: the session that the client names may go on in its own conversation."""
    ENDING = enum.auto()
    """The last finals: the server ends the session. Messages are dropped."""
    CLOSED = enum.auto()
    """Nothing: a close is among the actions, or the client is gone. The session has been given up."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.OPEN: frozenset(
        {
            State.WAITING_FOR_DECODER,
            State.WAITING_FOR_VOICE,
            State.FULL,
            State.YIELDING,
            State.CLAIMING,
            State.ENDING,
            State.CLOSED,
        }
    ),
    State.WAITING_FOR_DECODER: frozenset({State.OPEN, State.ENDING, State.CLOSED}),
    State.WAITING_FOR_VOICE: frozenset({State.OPEN, State.ENDING, State.CLOSED}),
    State.FULL: frozenset({State.YIELDING, State.ENDING, State.CLOSED}),
    State.YIELDING: frozenset({State.OPEN, State.ENDING, State.CLOSED}),
    State.CLAIMING: frozenset({State.OPEN, State.CLOSED}),
    State.ENDING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""The states that may follow each."""
