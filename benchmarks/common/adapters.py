"""What the load generator needs of a protocol. Each adapter in `benchmarks/common/protocols/` is one implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """The transcript as it stands after a message of the server."""

    final: str
    """The whole text that will not change any more."""
    partial: str = ""
    """What follows it for now."""
    ends: int | None = field(default=None, compare=False)
    """How often the server has said that the speaker is done; None in protocols that never say so."""


class SessionRefused(Exception):
    """The server does not take the session: full, wrong key, unknown model. The message says which."""


class SessionFailed(Exception):
    """The session broke off or the server sent an error."""


class LiveSession(Protocol):
    """One stream of speech to a server."""

    async def send(self, pcm: bytes) -> None:
        """Send 16 bit little-endian mono PCM at the rate that the adapter was given.

        Raises:
            SessionFailed: the connection is gone.
        """

    async def finalize(self) -> None:
        """Ask for the finals of what was sent; the session goes on. Protocols that can't, end the stream instead."""

    async def finish(self) -> None:
        """Say that no more audio follows."""

    def readings(self) -> AsyncIterator[Reading]:
        """What the server sends, until it has no more to send.

        Raises:
            SessionFailed: the server sent an error, or the connection broke.
        """


class Adapter(Protocol):
    """A way to speak to one kind of server."""

    name: str
    sample_rate: int
    """Hz, of the PCM that its sessions want."""

    def session(self, language: str) -> AbstractAsyncContextManager[LiveSession]:
        """Open a session; leaving the context closes it.

        Raises:
            SessionRefused: the server would not take it.
        """
