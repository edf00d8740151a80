"""What is reported of one session: that it is open, how much audio it has received, that it is over. Sans-IO."""

from __future__ import annotations

from streaming_asr.core.session import Session
from streaming_asr.server.observer import Observer

METERED_MS = 1000
"""Audio received between two reports to the observer, one a chunk would cost too much."""


class SessionMeter:
    """Reports one session to an observer."""

    def __init__(self, session: Session, observer: Observer) -> None:
        self._session = session
        self._observer = observer
        self._reported_ms = 0

    def open(self) -> None:
        """The session was opened."""
        self._observer.opened(self._session.key)

    def received(self) -> None:
        """The session has received audio: report it if there is enough."""
        if self._session.audio_ms - self._reported_ms >= METERED_MS:
            self.report()

    def report(self) -> None:
        """Report all audio received so far."""
        audio_ms = self._session.audio_ms
        self._observer.received(audio_ms - self._reported_ms)
        self._reported_ms = audio_ms

    def close(self) -> None:
        """The session is over."""
        try:
            self.report()
        finally:
            # Whatever fails before, the session does not count as open any more.
            self._observer.closed()
