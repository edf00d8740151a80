"""Messages that clients have begun and not finished, bounded all together.

No event loop and no clock.
"""

from __future__ import annotations

from typing import Generic, TypeVar

MAX_UNFINISHED_BYTES = 256 * 2**20
"""Of all connections together."""
SMALL_BYTES = 64 * 1024
"""A message that has no more so far does not count: nobody with messages of usual sizes is closed."""

H = TypeVar("H")


class Unfinished(Generic[H]):
    """How much each connection holds of a message that is not complete."""

    def __init__(self) -> None:
        self._sizes: dict[H, int] = {}
        """Those above `SMALL_BYTES`, the message begun first in front."""
        self._bytes = 0

    def set(self, holder: H, size: int) -> H | None:
        """A connection holds this much, bytes; returns the connection to close, if all hold too much: the one whose
        message was begun first, as one that sends all the time is soon done."""
        self._bytes -= self._sizes.get(holder, 0)
        if size <= SMALL_BYTES:
            self._sizes.pop(holder, None)
            return None
        self._sizes[holder] = size
        self._bytes += size
        return next(iter(self._sizes)) if self._bytes > MAX_UNFINISHED_BYTES else None
