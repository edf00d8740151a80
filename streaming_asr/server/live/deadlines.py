"""When the server ends a conversation: its client sends nothing for too long, or its time is over. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streaming_asr.protocols.base import Lifetime
from streaming_asr.protocols.failures import Failure, FailureKind

PAUSE_WITHIN_S = 5.0
"""An end that the server chooses waits this long for the speaker to pause, so that no word is cut in two. After 96 to
100 of 100 moments of speech a pause of 96 ms comes within this time: spontaneous, read, and telephone speech, in nine
languages."""


@dataclass(frozen=True, slots=True)
class PlannedEnd:
    """From when on the conversation ends at a pause, and when it ends without one."""

    since: float
    by: float
    failure: Failure

    def due(self, now: float, in_speech: Callable[[], bool]) -> bool:
        return now >= self.since and (now >= self.by or not in_speech())

    def next(self, now: float) -> float:
        return self.since if now < self.since else self.by


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
        self._expiry: PlannedEnd | None = None
        """When the connection's time is over."""
        self._chosen: PlannedEnd | None = None
        """When it ends by `end_at_pause`."""

    def limit(self, lifetime: Lifetime, now: float) -> None:
        """Set both anew."""
        self.idle_timeout_s = max(self._shortest_s, lifetime.idle_s)
        if lifetime.life_s is None:
            self._expiry = None
            return
        message = f"A session lasts {lifetime.life_s / 60:g} minutes; open a new one."
        expiry = now + lifetime.life_s
        self._expiry = PlannedEnd(expiry, expiry + PAUSE_WITHIN_S, Failure(FailureKind.SESSION_EXPIRED, message))

    def end_at_pause(self, failure: Failure, now: float, within_s: float) -> None:
        """End at the next pause, or after `within_s`. The first such call counts."""
        if self._chosen is None:
            self._chosen = PlannedEnd(now, now + within_s, failure)

    def next(self, now: float, *, idle: bool) -> float:
        """When to look next.

        Args:
            idle: whether the next message is waited for.
        """
        deadline = (self.idle_since if idle else now) + self.idle_timeout_s
        return min([deadline, *(planned.next(now) for planned in self._planned)])

    def passed(self, now: float, *, idle: bool, in_speech: Callable[[], bool]) -> Failure | None:
        """Why the conversation ends now; None: it goes on.

        Args:
            idle: as for `next`.
            in_speech: returns whether an end now would cut a word in two; called only if an end is planned.
        """
        if failure := self.planned(now, in_speech):
            return failure
        if idle and now >= self.idle_since + self.idle_timeout_s:
            message = (
                f"Nothing came for {self.idle_timeout_s:g} s; send audio, silence or pings to keep a session open."
            )
            return Failure(FailureKind.IDLE, message)
        return None

    def planned(self, now: float, in_speech: Callable[[], bool]) -> Failure | None:
        """As `passed`, for any reason but that the client sends nothing."""
        return next((planned.failure for planned in self._planned if planned.due(now, in_speech)), None)

    @property
    def _planned(self) -> list[PlannedEnd]:
        return [planned for planned in (self._chosen, self._expiry) if planned is not None]
