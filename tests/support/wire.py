"""A plain client of the native protocol: what is sent and what comes back, nothing hidden."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jiwer
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Event = dict[str, Any]
T = TypeVar("T")

WITHIN_S = 120.0
FOLLOW_WITHIN_S = 5.0


def run(awaitable: Awaitable[T], within_s: float = WITHIN_S) -> T:
    """Run a test's conversation, with a deadline."""

    async def bounded() -> T:
        return await asyncio.wait_for(awaitable, within_s)

    return asyncio.run(bounded())


def speech(path: Path, rate: int = 16_000) -> NDArray[np.int16]:
    """A clip as mono 16-bit samples at `rate`."""
    samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), own, rate)
    return (mono.clip(-1, 1) * 32767).astype(np.int16)


class Conversation:
    """One connection; `events` holds all that came so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def send_audio(self, samples: NDArray[Any], chunk: int | None = None) -> None:
        data = samples.tobytes()
        size = len(data) if chunk is None else chunk * samples.itemsize
        for start in range(0, len(data), size):
            await self.socket.send(data[start : start + size])

    async def send_paced(self, samples: NDArray[np.int16], rate: int = 16_000, chunk_ms: int = 100) -> None:
        """At real time, on the audio's own clock."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        step = rate * chunk_ms // 1000
        for start in range(0, len(samples), step):
            await asyncio.sleep(began + (start + step) / rate - loop.time())
            await self.socket.send(samples[start : start + step].tobytes())

    async def send_followed(self, samples: NDArray[np.int16], rate: int = 16_000) -> None:
        """At real time; on a busy machine slower, so that partials keep up. Something else has to receive them.

        After each second it waits for a new one, though not for ever: not every second has words.
        """
        for start in range(0, len(samples), rate):
            before = len(self.of("partial"))
            await self.send_paced(samples[start : start + rate], rate)
            for _ in range(round(FOLLOW_WITHIN_S / 0.02)):
                if len(self.of("partial")) > before:
                    break
                await asyncio.sleep(0.02)

    async def receive(self, kind: str) -> Event:
        """The next event of a kind; those before it are kept too."""
        while True:
            event = await self.receive_any()
            if event["type"] == kind:
                return event

    async def receive_any(self) -> Event:
        event: Event = json.loads(await self.socket.recv())
        self.events.append(event)
        return event

    async def receive_all(self) -> int:
        """Everything until the server closes; returns the close code."""
        try:
            while True:
                await self.receive_any()
        except ConnectionClosed:
            return self.socket.close_code or 0

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def text(self) -> str:
        """All finals so far."""
        return " ".join(event["text"] for event in self.of("final"))


async def talk(
    url: str,
    script: Callable[[Conversation], Awaitable[T]],
    *,
    headers: dict[str, str] | None = None,
    **connecting: Any,
) -> T:
    """Connect, run the script, hang up."""
    async with connect(url, additional_headers=headers, ping_timeout=None, max_size=None, **connecting) as socket:
        return await script(Conversation(socket))


def transcribe(url: str, samples: NDArray[Any], chunk: int | None = 1600, **connecting: Any) -> Conversation:
    """Send audio as fast as it is taken, stop, and receive everything."""

    async def script(talking: Conversation) -> Conversation:
        async def send() -> None:
            await talking.send_audio(samples, chunk)
            await talking.send("stop")

        _, code = await asyncio.gather(send(), talking.receive_all())
        assert code == 1000, talking.events[-3:]
        return talking

    return run(talk(url, script, **connecting))


def words(texts: str | Sequence[str]) -> list[str]:
    """Lower-case words without punctuation."""
    text = texts if isinstance(texts, str) else " ".join(texts)
    kept = "".join(char if char.isalnum() or char in "' " else " " for char in text.lower())
    return kept.split()


def assert_said(text: str, reference: str, at_most: float = 0.2) -> None:
    """Assert that a text is what was said, up to this word error rate."""
    error = jiwer.wer(" ".join(words(reference)), " ".join(words(text)) or "-")
    assert error <= at_most, f"WER {error:.2f}: {text!r} for {reference!r}"
