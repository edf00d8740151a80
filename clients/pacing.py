"""Reads recorded audio beside the event loop, and at the pace at which it was spoken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

_READ_AHEAD = 20
"""Pieces that are read before they are asked for."""


async def in_thread(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces that may have to be waited for, as from a pipe; a thread waits, so the event loop goes on."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(_READ_AHEAD)
    stopped = threading.Event()

    def put(item: bytes | BaseException | None) -> None:
        if not stopped.is_set():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def read() -> None:
        try:
            for piece in pieces:
                room.acquire()
                if stopped.is_set():
                    return
                put(piece)
            put(None)
        except BaseException as error:
            put(error)

    # A daemon: nothing ends a read from a pipe into which nobody writes.
    threading.Thread(target=read, name="read a pipe", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()


async def at_real_time(pieces: AsyncIterator[bytes], bytes_per_second: int) -> AsyncIterator[bytes]:
    """Yield each piece when its last sample would have been captured, counted from the first piece: a late piece does
    not delay those after it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    async for piece in pieces:
        sent += len(piece)
        await asyncio.sleep(began + sent / bytes_per_second - loop.time())
        yield piece
