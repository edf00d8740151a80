"""A bounded queue of events, between the connection and the program that reads them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from clients.events import Partial

LIMIT = 10_000
_LOOKED_AT = 20
"""The partial to replace is looked for among this many of the latest unread events."""

_T = TypeVar("_T")


class Inbox(Generic[_T]):
    """A queue with one writer and one reader.

    A partial replaces an unread one of the same utterance, so that a program that sends a long file before it reads
    finds finals, not ten thousand stale partials.

    Args:
        limit: most unread events; at this many `put` waits, and TCP slows the server down.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._events: deque[_T] = deque()
        self._changed = asyncio.Condition()
        self._closed = False
        self._error: BaseException | None = None

    async def put(self, event: _T) -> None:
        async with self._changed:
            if self._replaces(event):
                return
            await self._changed.wait_for(lambda: len(self._events) < self._limit or self._closed)
            if self._closed:
                return
            self._events.append(event)
            self._changed.notify_all()

    def _replaces(self, new: _T) -> bool:
        if not isinstance(new, Partial):
            return False
        for index in range(len(self._events) - 1, max(-1, len(self._events) - 1 - _LOOKED_AT), -1):
            old = self._events[index]
            if isinstance(old, Partial) and (old.utterance, old.channel) == (new.utterance, new.channel):
                self._events[index] = new
                return True
        return False

    async def close(self, error: BaseException | None = None) -> None:
        """End the queue. Unread events can still be read; then `get` raises `error`, or returns None."""
        async with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    async def get(self) -> _T | None:
        """The next event; None at the end, if it was closed without an error."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._closed)
            if self._events:
                event = self._events.popleft()
                self._changed.notify_all()
                return event
            if self._error is not None:
                raise self._error
            return None
