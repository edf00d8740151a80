"""One replica as the supervisor sees it: its process, what it does, and the channel to it."""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streaming_asr.server.replicas.channel import Channel
from streaming_asr.server.replicas.placement import DRAINING, Place
from streaming_asr.server.replicas.process_group import kill_group
from streaming_asr.server.replicas.restarts import Restarts
from streaming_asr.server.replicas.shares import Share


class State(enum.Enum):
    """What a replica does; the values are shown where it reports no status itself."""

    WAITING = "waiting"
    """It has no process: it will be started."""
    STARTING = "starting"
    """Its process runs and has not been ready yet."""
    RUNNING = "running"
    """It has been ready."""
    ENDING = DRAINING
    """It was asked to end, and lets its sessions finish."""
    GIVEN_UP = "given_up"
    """It died too often; it is started again on SIGHUP only."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.STARTING}),
    State.STARTING: frozenset({State.RUNNING, State.ENDING, State.WAITING, State.GIVEN_UP}),
    State.RUNNING: frozenset({State.ENDING, State.WAITING, State.GIVEN_UP}),
    State.ENDING: frozenset({State.WAITING}),
    State.GIVEN_UP: frozenset({State.WAITING}),
}
"""The states that may follow each."""


@dataclass(slots=True, eq=False)
class Replica:
    """A replica, through all its processes."""

    share: Share
    place: Place
    state: State = State.WAITING
    process: asyncio.subprocess.Process | None = None
    """The last one that was started."""
    channel: Channel | None = None
    """To its process, while that reads."""
    restarts: Restarts = field(default_factory=Restarts)
    deaths: int = 0
    """Unexpected ends of its processes."""
    wanted: bool = False
    """Whether it is to be started without any further wait."""

    @property
    def number(self) -> int:
        return self.place.number

    @property
    def status(self) -> str:
        return self.place.status if self.channel is not None else self.state.value

    def go(self, state: State) -> None:
        """Change the state.

        Raises:
            RuntimeError: the state can't follow this one.
        """
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.state.name} can't be followed by {state.name}")
        self.state = state

    def send(self, kind: str, *, body: bytes = b"", sockets: Sequence[socket.socket] = (), **fields: Any) -> bool:
        """Send its process a message; returns whether it will be sent. The sockets stay the caller's."""
        return self.channel is not None and self.channel.send(kind, body=body, sockets=sockets, **fields)

    def kill(self) -> None:
        """Kill its process, and all that this has started."""
        if self.process is not None:
            kill_group(self.process.pid)
