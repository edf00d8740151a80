"""The port through which a client's conversation opens its session and has it decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.session import Session
from streaming_asr.protocols.failures import Failure


class Refused(Exception):
    """A session is not opened. `failure` is for the client."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Sessions(Protocol):
    """Opens sessions and decodes their audio. The server's `Service` is one."""

    def open(
        self,
        options: SessionOptions,
        listener: Callable[[Sequence[Event]], None],
        broke: Callable[[Exception], None],
        *,
        address: str = "",
    ) -> Session:
        """Open a session.

        Args:
            address: of the client.
            listener: is called with the events that decodes bring.
            broke: is called once if the session fails; it has then been removed.

        Raises:
            Refused: no session can be opened now, or not with these options.
        """

    def update(self, session: Session) -> None:
        """Call after anything was given to a session."""

    def fill(self, session: Session) -> None:
        """Call instead of `update` after a session received audio and returned no events."""

    def remove(self, session: Session) -> None:
        """The session is over."""
