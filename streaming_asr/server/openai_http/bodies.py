"""Bodies of requests, bounded: each in size and in time, all together in size."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.openai_http.answers import ApiError

Receive = Callable[[], Awaitable[Any]]
"""Of ASGI."""

GRACE_S = 10.0
"""Time after which a body must have arrived at the least rate."""
MIN_BYTES_PER_S = 8_000
"""The least rate, over the whole body; a slow mobile connection has twice that."""
ADDRESS_SHARE = 0.75
"""Of the bytes that may be kept, those of one address; at least those of one recording."""


class Kept:
    """The bytes that requests keep, all together and of each client.

    Args:
        limit: how many may be kept at once.
        of_client: how many of them of one client; None: all.
    """

    def __init__(self, limit: int, of_client: int | None = None) -> None:
        self._limit = limit
        self._of_client = limit if of_client is None else of_client
        self._bytes: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Kept now."""
        return self._bytes.total()

    @contextmanager
    def share(self, client: str) -> Iterator[Callable[[int], None]]:
        """One request's share, which ends with the context.

        Args:
            client: that it is counted for.

        Yields:
            A function that adds bytes to the share, and raises `ApiError` if all shares, or those of the client, are
            too large then, or if the share has ended. It may be called in any thread.
        """
        mine = 0
        ended = False

        def add(size: int) -> None:
            nonlocal mine
            with self._lock:
                if ended or self._bytes.total() + size > self._limit:
                    message = "Recordings that wait to be transcribed take all the room there is; try again later."
                    raise ApiError.of(FailureKind.BUSY, message)
                if self._bytes[client] + size > self._of_client:
                    message = "Recordings from your address take all the room they may; try again later."
                    raise ApiError.of(FailureKind.BUSY, message)
                mine += size
                self._bytes[client] += size

        try:
            yield add
        finally:
            with self._lock:
                ended = True
                self._bytes[client] -= mine
                if not self._bytes[client]:
                    del self._bytes[client]


def bounded(receive: Receive, max_bytes: int, timeout_s: float, add: Callable[[int], None] | None = None) -> Receive:
    """A request's `receive` that raises `ApiError` for a body that is too large, too slow, or more than can be kept.

    Args:
        max_bytes, timeout_s: of the whole body.
        add: see `Kept.share`.
    """
    began = time.monotonic()
    taken = 0

    async def bounded_receive() -> Any:
        nonlocal taken
        passed_s = time.monotonic() - began
        at_rate_s = GRACE_S + taken / MIN_BYTES_PER_S
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(at_rate_s, timeout_s) - passed_s))
        except asyncio.TimeoutError:
            if at_rate_s < timeout_s:
                reason = f"fewer than {MIN_BYTES_PER_S} bytes a second"
            else:
                reason = f"not complete after {timeout_s:g} s"
            message = f"The request's body is too slow: {reason}, with {taken} bytes received."
            raise ApiError.of(FailureKind.IDLE, message) from None
        size = len(message.get("body", b""))
        taken += size
        if taken > max_bytes:
            raise ApiError.of(FailureKind.TOO_LARGE, f"The request is larger than the {max_bytes} bytes allowed.")
        if add is not None:
            add(size)
        return message

    return bounded_receive
