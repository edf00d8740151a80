"""When the server ends a conversation: its client sends nothing for too long, or its time is over. Sans-IO."""

from __future__ import annotations

from streaming_asr.protocols.base import Lifetime
from streaming_asr.protocols.failures import Failure, FailureKind


class Deadlines:
    """The times of one conversation, on any clock that never goes back, in seconds.

    Args:
        idle_timeout_s: how long the client may send nothing, unless its protocol lets it be silent for longer.
    """

    def __init__(self, idle_timeout_s: float) -> None:
        self._shortest_s = idle_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self.idle_since = 0.0
        """When the last message had been acted on. It counts only while nothing is waited for: else the server is
        busy."""
        self._expiry: tuple[float, Failure] | None = None
        """When the connection's time is over, and what the client is then sent."""

    def limit(self, lifetime: Lifetime, now: float) -> None:
        """Set both anew."""
        self.idle_timeout_s = max(self._shortest_s, lifetime.idle_s)
        if lifetime.life_s is None:
            self._expiry = None
            return
        message = f"A session lasts {lifetime.life_s / 60:g} minutes; open a new one."
        self._expiry = now + lifetime.life_s, Failure(FailureKind.SESSION_EXPIRED, message)

    def next(self, now: float, *, idle: bool) -> float:
        """When to look next.

        Args:
            idle: whether the next message is waited for.
        """
        deadline = (self.idle_since if idle else now) + self.idle_timeout_s
        return deadline if self._expiry is None else min(deadline, self._expiry[0])

    def passed(self, now: float, *, idle: bool) -> Failure | None:
        """Why the conversation ends now; None: it goes on."""
        if self._expiry is not None and now >= self._expiry[0]:
            return self._expiry[1]
        if idle and now >= self.idle_since + self.idle_timeout_s:
            message = (
                f"Nothing came for {self.idle_timeout_s:g} s; send audio, silence or pings to keep a session open."
            )
            return Failure(FailureKind.IDLE, message)
        return None
