"""Sends recorded audio as if it were being spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable


async def at_real_time(pieces: Iterable[bytes], bytes_per_second: int) -> AsyncIterator[bytes]:
    """Each piece when its last sample would have been captured, by one clock from the first piece on: a late piece
    does not delay those after it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    for piece in pieces:
        sent += len(piece)
        await asyncio.sleep(began + sent / bytes_per_second - loop.time())
        yield piece
