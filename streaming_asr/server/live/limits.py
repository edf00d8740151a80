"""What one client may do, and what it is sent when it does more."""

from __future__ import annotations

from dataclasses import dataclass

from streaming_asr.core.session import Session
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.server.live.deadlines import PAUSE_WITHIN_S

CHANGES = 100
CHANGES_PER_S = 20
"""`Configure` and `Clear` of one session, and how many more for each second of its audio: each costs the server more
than the client."""
HELD_MARGIN_S = 15.0
"""Room above the longest utterance: up to a long pause the silence behind it is held, too. With less, the bound on held
audio could block for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationLimits:
    """What one client may do."""

    max_message_bytes: int
    max_session_s: float
    """Audio of one session."""
    max_held_s: float
    """Audio kept for decoding, per channel; at least the longest utterance and a margin are."""
    max_unread: int
    """Messages that the client leaves unread; counted by the caller."""
    max_unread_bytes: int
    """Size of these messages."""
    idle_timeout_s: float

    def held_s(self, session: Session) -> float:
        """Seconds of audio that a session may keep for decoding, in all its channels, before it takes more."""
        longest = session.options.max_utterance_s + HELD_MARGIN_S
        return max(self.max_held_s, longest) * session.tracks

    def changes(self, session: Session) -> float:
        """How many changes a session may have made so far."""
        return CHANGES + CHANGES_PER_S * session.audio_ms / 1000

    def message_too_big(self, size: int) -> Failure:
        reason = f"A message of {size} bytes; send at most {self.max_message_bytes} at once."
        return Failure(FailureKind.MESSAGE_TOO_BIG, reason)

    def exceeded(self, session: Session) -> Failure | None:
        """Why a session ends that has received too much audio: at the next pause, or a little later without one."""
        beyond_s = session.audio_ms / 1000 - self.max_session_s
        if beyond_s <= 0 or (beyond_s <= PAUSE_WITHIN_S and session.in_speech):
            return None
        reason = f"The stream has reached {self.max_session_s:g} s, the longest allowed; open a new session to go on."
        return Failure(FailureKind.SESSION_TOO_LONG, reason)

    def too_many_changes(self) -> Failure:
        reason = f"More than {CHANGES} changes, and {CHANGES_PER_S} for each second of audio; send fewer."
        return Failure(FailureKind.TOO_MANY_CHANGES, reason)

    def too_much_unread(self) -> Failure:
        most, most_bytes = self.max_unread, self.max_unread_bytes
        reason = f"More than {most} messages or {most_bytes} bytes are unread; read events while you send."
        return Failure(FailureKind.SLOW_READER, reason)
