"""What the scripts beside this one have in common: audio at real time, and reports to the test."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from typing import Any


def asked() -> dict[str, Any]:
    """What the test asks for."""
    return json.loads(sys.argv[1])


def report(scenario: str, **what: Any) -> None:
    """Report something to the test, as a line of JSON. For any thread."""
    sys.stdout.write(json.dumps({"scenario": scenario, **what}) + "\n")
    sys.stdout.flush()


def pcm(path: str) -> bytes:
    return Path(path).read_bytes()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def paced(data: bytes, bytes_per_second: int, chunk_ms: int = 100) -> AsyncIterator[bytes]:
    """The audio in chunks, each when its last sample would have been spoken."""
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    for piece in pieces(data, bytes_per_second * chunk_ms // 1000):
        sent += len(piece)
        await asyncio.sleep(began + sent / bytes_per_second - loop.time())
        yield piece


async def two_at_a_time(running: Iterable[Awaitable[None]]) -> None:
    """Run what speaks at real time, two at once: more would leave a small machine no time for partials."""
    free = asyncio.Semaphore(2)

    async def one(each: Awaitable[None]) -> None:
        async with free:
            await each

    await asyncio.gather(*map(one, running))


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()
