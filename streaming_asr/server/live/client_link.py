"""The link of a conversation to its client, whose connection may be lost and come back. Sans-IO."""

from __future__ import annotations

import enum
import logging

from streaming_asr.protocols.base import Close, Replay, Send

logger = logging.getLogger(__name__)


class Link(enum.Enum):
    """Whether there is a client to send to. In each of these a conversation may have any state."""

    CONNECTED = enum.auto()
    PARKED = enum.auto()
    """The connection is lost, and the session goes on with what it received; its client may come back."""
    GONE = enum.auto()
    """Nobody will be sent anything more."""


LINKS: dict[Link, frozenset[Link]] = {
    Link.CONNECTED: frozenset({Link.PARKED, Link.GONE}),
    Link.PARKED: frozenset({Link.CONNECTED, Link.GONE}),
    Link.GONE: frozenset(),
}
"""The links that may follow each."""


class ClientLink:
    """A link, and what the client missed while it was parked."""

    def __init__(self) -> None:
        self._state = Link.CONNECTED
        self._replay: Replay | None = None
        """If the session outlives its connection."""

    @property
    def state(self) -> Link:
        return self._state

    @property
    def resumable(self) -> bool:
        """Whether the session outlives its connection."""
        return self._replay is not None and self._state is not Link.GONE

    @property
    def size(self) -> int:
        """Bytes of the messages that are kept for the client."""
        return self._replay.size if self._replay is not None else 0

    def keep(self, replay: Replay) -> None:
        """From now on the session outlives its connection."""
        self._replay = replay

    def park(self) -> None:
        """The connection is lost, and the client may come back.

        Raises:
            RuntimeError: the client is not connected.
        """
        self._go(Link.PARKED)

    def resume(self, seen: int) -> list[Send | Close] | None:
        """The client is back on another connection; returns what it missed.

        Args:
            seen: number of the last message that it received.

        Returns:
            None, and nothing has changed, if the link was not parked or some of the messages are gone.
        """
        if self._state is not Link.PARKED or self._replay is None:
            return None
        try:
            missed = self._replay.resumed(seen)
        except Exception:
            logger.exception("A translator failed to resume a session")
            return None
        if missed is not None:
            self._go(Link.CONNECTED)
        return missed

    def end(self) -> None:
        """The client does not come back."""
        if self._state is not Link.GONE:
            self._go(Link.GONE)

    def _go(self, state: Link) -> None:
        if state not in LINKS[self._state]:
            raise RuntimeError(f"{self._state.name} can't be followed by {state.name}")
        self._state = state
