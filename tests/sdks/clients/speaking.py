"""What the scripts beside this one have in common: audio at real time, and reports to the test.

On a busy machine words come late. Where a test asks that they come before something else, the script waits for them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

WORDS_WITHIN_S = 20.0
_reported: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)


def asked() -> dict[str, Any]:
    """What the test asks for."""
    return json.loads(sys.argv[1])


def report(scenario: str, **what: Any) -> None:
    """Report something to the test, as a line of JSON. For any thread."""
    _reported[scenario].append(what)
    sys.stdout.write(json.dumps({"scenario": scenario, **what}) + "\n")
    sys.stdout.flush()


async def reported(
    scenario: str, wanted: Callable[[dict[str, Any]], bool], times: int = 1, within_s: float = WORDS_WITHIN_S
) -> None:
    """Wait until what was reported includes something this many times, though not for ever."""
    for _ in range(round(within_s / 0.01)):
        if sum(map(wanted, list(_reported[scenario]))) >= times:
            return
        await asyncio.sleep(0.01)


async def spoken(scenario: str) -> None:
    """Report that all has been said, once words of it have come. What ends the speech is sent after this."""
    await reported(scenario, _shows_words)
    report(scenario, type="spoken")


def _shows_words(what: dict[str, Any]) -> bool:
    """Whether it is an interim result of any of the protocols and packages."""
    kind = str(what.get("type"))
    if kind == "Results":
        return bool(what["channel"]["alternatives"][0]["transcript"])
    interim = ("interim_transcript", "InterimTranscriptionFrame")
    return kind in interim or kind.endswith((".delta", ".text")) or what.get("event") == "Update"


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
