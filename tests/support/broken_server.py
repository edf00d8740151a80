"""A server of the native protocol that is broken on purpose: a real WebSocket on a real port, without recognition."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

BYTES_PER_S = 32_000
WORDS_PER_UTTERANCE = 3
LATE_S = 2.0


class Fault(Enum):
    NONE = "none"
    LATE = "late"
    """Everything comes two seconds later than it should."""
    LOSSY = "lossy"
    """Every other utterance gets no text."""
    DOUBLING = "doubling"
    """Every final comes twice."""
    REORDERING = "reordering"
    """Finals come last first."""
    SILENT = "silent"
    NEVER_FINAL = "never final"
    """Text comes as partials only."""
    REFUSING = "refusing"
    """All but the first session are refused as busy."""
    BREAKING_OFF = "breaking off"
    """The connection is cut in mid-stream."""
    NEVER_DONE = "never done"
    """The session does not end."""


class BrokenServer:
    """Says the words of `text`, evenly spread over audio of a given length, three to an utterance."""

    def __init__(self, fault: Fault, text: str, audio_s: float) -> None:
        self._fault = fault
        self._words = text.split()
        self._audio_s = audio_s
        self._connections = 0

    async def talk(self, socket: ServerConnection) -> None:
        self._connections += 1
        with suppress(ConnectionClosed):
            if self._fault is Fault.REFUSING and self._connections > 1:
                message = "All sessions are taken."
                await socket.send(_message("error", code="busy", message=message, fatal=True))
                await socket.close(1013, "busy")
                return
            await socket.send(_message("ready", session="b1", recognizer="fake", model="broken"))
            await self._listen(socket)

    async def _listen(self, socket: ServerConnection) -> None:
        received, sent, withheld = 0, 0, []
        later = asyncio.get_running_loop().call_later
        delay_s = LATE_S if self._fault is Fault.LATE else 0.0

        def send_late(message: str) -> None:
            later(delay_s, lambda: asyncio.ensure_future(_send(socket, message)))

        async for message in socket:
            if isinstance(message, str):
                if json.loads(message)["type"] == "stop":
                    break
                continue
            received += len(message)
            spoken = int(len(self._words) * min(1.0, received / BYTES_PER_S / self._audio_s))
            if self._fault is Fault.BREAKING_OFF and received / BYTES_PER_S > self._audio_s / 2:
                socket.transport.abort()
                return
            for number in range(sent + 1, spoken + 1):
                for event in self._events(number):
                    if self._fault is Fault.REORDERING and '"final"' in event:
                        withheld.append(event)
                    else:
                        send_late(event)
            sent = spoken
        for event in reversed(withheld):
            send_late(event)
        if self._fault is not Fault.NEVER_DONE:
            send_late(_message("done", audio_ms=1000 * received // BYTES_PER_S))
        await socket.wait_closed()

    def _events(self, number: int) -> Iterator[str]:
        """The messages once the word of this number, from 1, has been received."""
        utterance = (number - 1) // WORDS_PER_UTTERANCE
        if self._fault is Fault.SILENT or (self._fault is Fault.LOSSY and utterance % 2):
            return
        words = " ".join(self._words[utterance * WORDS_PER_UTTERANCE : number])
        place = {"utterance": utterance + 1, "start_ms": 0, "time_ms": 0}
        last = number == len(self._words) or number % WORDS_PER_UTTERANCE == 0
        if not last or self._fault is Fault.NEVER_FINAL:
            yield _message("partial", **place, revision=number, stable="", tentative=words)
        else:
            yield from [_message("final", **place, text=words)] * (2 if self._fault is Fault.DOUBLING else 1)


def _message(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


async def _send(socket: ServerConnection, message: str) -> None:
    with suppress(ConnectionClosed):
        await socket.send(message)


@contextmanager
def broken_server(fault: Fault, text: str, audio_s: float) -> Iterator[str]:
    """Run one in a thread of its own; gives its address."""
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    started: list[int] = []
    ready = threading.Event()

    async def run() -> None:
        server = BrokenServer(fault, text, audio_s)
        async with serve(server.talk, "127.0.0.1", 0, close_timeout=0.1) as listening:
            started.append(listening.sockets[0].getsockname()[1])
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"ws://127.0.0.1:{started[0]}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
