"""Messages to one client that are not sent yet, bounded: a partial is replaced by the next one, finals are kept."""

from __future__ import annotations

import asyncio
from collections import deque

from streaming_asr.protocols.base import Close, Send


class SlowReader(Exception):
    """The client leaves more unread than is allowed."""


class Outbox:
    """A queue with one reader.

    Args:
        limit: messages it holds at most. A partial replaces an unsent one of the same utterance, so only a client
            that reads nothing at all reaches it.
        limit_bytes: size of the messages it holds at most; one alone may be larger.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._queue: deque[Send | Close] = deque()
        self._closed = False
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, item: Send | Close) -> None:
        """Add a message; after a `Close` all others are dropped.

        Raises:
            SlowReader: it is full.
        """
        if self._closed:
            return
        self._closed = isinstance(item, Close)
        stale = self._stale(item)
        if stale is not None:
            self._queue.remove(stale)
            self._bytes -= _size(stale)
        size = _size(item)
        full = len(self._queue) >= self._limit or self._bytes + size > self._limit_bytes
        if full and self._queue and not self._closed:
            raise SlowReader
        self._queue.append(item)
        self._bytes += size
        self._filled.set()

    def _stale(self, item: Send | Close) -> Send | None:
        """The unsent partial that `item` replaces."""
        if not isinstance(item, Send) or item.replaces is None:
            return None
        return next((sent for sent in self._queue if isinstance(sent, Send) and sent.replaces == item.replaces), None)

    def clear(self) -> None:
        """Drop what is unsent."""
        self._queue.clear()
        self._bytes = 0

    async def get(self) -> Send | Close:
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        item = self._queue.popleft()
        self._bytes -= _size(item)
        return item


def _size(item: Send | Close) -> int:
    """Bytes of a message on the wire."""
    if isinstance(item, Close):
        return 0
    message = item.message
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
