"""Sessions that outlive their connections: which client may have which, how long, and how much memory they take.

No event loop and no clock: a caller says when the time of one is over.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger(__name__)


class Outcome(Enum):
    """What becomes of a claim, or of a session that waits for one; the values are labels of a metric."""

    RESUMED = "resumed"
    """Claimed after its connection was lost."""
    TAKEN_OVER = "taken_over"
    """Claimed while its old connection still seemed open."""
    UNKNOWN = "unknown"
    """There is no session of this token, or the client missed more than is kept."""
    REFUSED = "refused"
    """The token belongs to a session of another API key."""
    EXPIRED = "expired"
    """Nobody claimed it in time."""
    DROPPED = "dropped"
    """Its place or memory was needed, or the server stops."""


class Parkable(Protocol):
    """A session that can wait for its client."""

    @property
    def size(self) -> int:
        """About how many bytes it keeps."""

    def drop(self) -> None:
        """End it; nobody comes back for it."""


class WrongOwner(Exception):
    """The token is that of a session of another API key."""


P = TypeVar("P", bound=Parkable)


@dataclass(slots=True)
class _Entry(Generic[P]):
    kept: P
    owner: str


class Parking(Generic[P]):
    """The sessions whose clients hold a token, and those among them that are parked: that have lost their connection.

    Args:
        limit_bytes: of all parked sessions; beyond it the one parked first is dropped.
        observe: is notified of what becomes of sessions and claims.
    """

    def __init__(self, limit_bytes: int, observe: Callable[[Outcome], None] = lambda outcome: None) -> None:
        self._limit_bytes = limit_bytes
        self._observe = observe
        self._entries: dict[bytes, _Entry[P]] = {}
        """By digest of the token."""
        self._parked: dict[bytes, int] = {}
        """Digest of the token -> bytes when it was parked; the one parked first comes first."""
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes of all parked sessions, each as it was when it was parked."""
        return self._bytes

    @property
    def parked(self) -> list[P]:
        """Those without a connection, the one parked first in front."""
        return [self._entries[digest].kept for digest in self._parked]

    def offer(self, token: str, owner: str, kept: P) -> None:
        """Let whoever has the token claim this session.

        Args:
            owner: API key of its client; empty without one.
        """
        self._entries[_digest(token)] = _Entry(kept, owner)

    def park(self, token: str) -> bool:
        """A session has lost its connection. Returns False, and forgets it, if it is too large to be kept."""
        digest = _digest(token)
        size = self._entries[digest].kept.size
        if size > self._limit_bytes:
            self._forget(digest)
            self._observe(Outcome.DROPPED)
            return False
        while self._bytes + size > self._limit_bytes:
            self.drop_first()
        self._parked[digest] = size
        self._bytes += size
        return True

    def find(self, token: str, owner: str) -> P | None:
        """The session of a token, which stays as it is; None if there is none.

        Raises:
            WrongOwner: the session is that of another API key.
        """
        entry = self._entries.get(_digest(token))
        if entry is None:
            self._observe(Outcome.UNKNOWN)
            return None
        if not hmac.compare_digest(entry.owner.encode(), owner.encode()):
            self._observe(Outcome.REFUSED)
            raise WrongOwner
        return entry.kept

    def claim(self, token: str) -> None:
        """The client of a session is back on another connection; the token stays valid."""
        digest = _digest(token)
        self._observe(Outcome.RESUMED if digest in self._parked else Outcome.TAKEN_OVER)
        self._leave(digest)

    def forget(self, token: str, outcome: Outcome | None = None) -> None:
        """The session is over, or will not be continued.

        Args:
            outcome: to report, if it was still there.
        """
        if self._forget(_digest(token)) and outcome is not None:
            self._observe(outcome)

    def drop_first(self) -> bool:
        """Drop the session that was parked first, to make room; returns False if none is parked."""
        digest = next(iter(self._parked), None)
        if digest is None:
            return False
        kept = self._entries[digest].kept
        self._forget(digest)
        self._observe(Outcome.DROPPED)
        kept.drop()
        return True

    def drop_all(self) -> None:
        """Drop all parked sessions."""
        while self.drop_first():
            pass

    def _forget(self, digest: bytes) -> bool:
        self._leave(digest)
        return self._entries.pop(digest, None) is not None

    def _leave(self, digest: bytes) -> None:
        self._bytes -= self._parked.pop(digest, 0)


def _digest(token: str) -> bytes:
    """By which a token is looked up, in a time that says nothing about the tokens there are."""
    return sha256(token.encode(errors="replace")).digest()
