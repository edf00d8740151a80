"""The port through which sessions report to the metrics and the traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streaming_asr.core.events import Event


class Observer(Protocol):
    """Notified of what happens in the sessions of one connection or recording."""

    def opened(self, session: str) -> None:
        """A session was opened; `session` is its key."""

    def closed(self) -> None:
        """An open session is over."""

    def refused(self, code: str) -> None:
        """A session was not opened."""

    def failed(self, code: str) -> None:
        """The client is sent an error."""

    def received(self, audio_ms: int) -> None:
        """The session received this much more audio."""

    def on_events(self, events: Sequence[Event], now: float) -> None:
        """The client is sent events of the session."""
