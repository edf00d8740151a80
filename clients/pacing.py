"""Sends recorded audio at the pace at which it was spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable


async def at_real_time(pieces: Iterable[bytes], bytes_per_second: int) -> AsyncIterator[bytes]:
    """Yield each piece when its last sample would have been captured, counted from the first piece: a late piece does
    not delay those after it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    for piece in pieces:
        sent += len(piece)
        await asyncio.sleep(began + sent / bytes_per_second - loop.time())
        yield piece
