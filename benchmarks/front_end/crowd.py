"""Many clients of the native protocol in one process: audio at exactly 1x real time, answers counted.

The messages are framed once and sent to all: a client library would take longer for a chunk than the server does.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import cast

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from benchmarks.front_end.lag import Spread, spread
from benchmarks.front_end.material import Material
from benchmarks.front_end.process import answer, cpu_clock, run, settle_on

JOINS_PER_S = 100
"""How fast sessions join: a crowd does not come in one moment."""
JOIN_WITHIN_S = 10.0
"""A handshake that takes longer has failed."""
TICK_S = 0.001
"""The shortest sleep; chunks due within it go out together."""


class _Event(msgspec.Struct):
    """What is looked at in the server's messages."""

    type: str
    code: str = ""
    audio_ms: int = 0


_EVENT_DECODER = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Join:
    """Asks the crowd to let `count` more sessions join. The answer to this, and to all else, is a `CrowdReading`."""

    count: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Asks all sessions to say that no more audio comes, and to leave once their transcript is done."""


@dataclass(frozen=True, slots=True)
class Read:
    """Asks for nothing but the reading."""


@dataclass(frozen=True, slots=True)
class CrowdReading:
    """What the clients have done so far."""

    cpu_s: float
    wall_s: float
    joining: bool
    """Whether some are still to come."""
    sessions: int
    """Open now."""
    sent_s: float
    """Seconds of audio sent, by all sessions that ever were."""
    unsent_bytes: int
    """What the sockets would not take yet: the server reads too slowly."""
    lag_ms: Spread
    """How late each chunk was sent, since the last reading."""
    received: dict[str, int]
    """Messages received, by type."""
    failures: list[str]
    """Sessions that could not join or were cut off, and why."""
    processed_ms: int
    """Audio that the server reported as processed, of the sessions that are over."""


class Client(asyncio.Protocol):
    """One session.

    Args:
        position: chunk of the material to begin with.
        crowd: is notified of what happens.
    """

    def __init__(self, url: str, position: int, crowd: Crowd) -> None:
        self.position = position
        self.joined = asyncio.get_running_loop().create_future()
        """Done once the server is ready for audio; fails when the session breaks off before."""
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._crowd = crowd
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of asyncio's kind, but do not derive from it.
        self.transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._receive(_EVENT_DECODER.decode(event.data))
            elif isinstance(event, Response) and event.status_code != 101:
                self._break(f"the server refused with status {event.status_code}")
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done:
            self._break(f"the connection was lost: {error or 'closed by the server'}")
        self._crowd.left(self)

    def send(self, frame: bytes) -> None:
        """Send what was framed before."""
        self.transport.write(frame)

    def _receive(self, event: _Event) -> None:
        self._crowd.received[event.type] += 1
        if event.type == "ready" and not self.joined.done():
            self.joined.set_result(None)
        elif event.type == "error":
            self._break(f"the server sent an error: {event.code}")
        elif event.type == "done":
            self._done = True
            self._crowd.processed_ms += event.audio_ms

    def _break(self, reason: str) -> None:
        self._done = True
        self._crowd.failures.append(reason)
        if not self.joined.done():
            self.joined.set_exception(ConnectionError(reason))
        self.transport.close()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()


class Crowd:
    """All sessions, on one clock.

    Args:
        query: options of every session, as in the URL.
    """

    def __init__(self, port: int, query: str, material: Material) -> None:
        self._port = port
        self._url = f"ws://127.0.0.1:{port}/v1/stream?{query}"
        self._frames = [_framed(Opcode.BINARY, chunk) for chunk in material.chunks]
        self._chunk_s = material.chunk_ms / 1000
        self._random = random.Random(0)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Client]] = []
        """When each session sends its next chunk; a heap."""
        self._clients: set[Client] = set()
        self._chunks_sent = 0
        self._lags: list[float] = []
        self._joining: asyncio.Task[None] | None = None
        self.received: Counter[str] = Counter()
        self.failures: list[str] = []
        self.processed_ms = 0

    async def run(self) -> None:
        """Send every chunk when it would have been spoken, until cancelled."""
        while True:
            now = time.perf_counter()
            while self._due and self._due[0][0] <= now:
                due, order, client = self._due[0]
                if client not in self._clients:
                    heapq.heappop(self._due)
                    continue
                client.send(self._frames[client.position])
                client.position = (client.position + 1) % len(self._frames)
                self._chunks_sent += 1
                now = time.perf_counter()
                self._lags.append(now - due)
                heapq.heapreplace(self._due, (due + self._chunk_s, order, client))
            await asyncio.sleep(max(TICK_S, self._due[0][0] - now) if self._due else self._chunk_s)

    def join(self, count: int) -> None:
        """Begin to let `count` more sessions join, `JOINS_PER_S` of them a second."""
        self._joining = asyncio.create_task(self._join(count), name="join")

    async def _join(self, count: int) -> None:
        joining = []
        for _ in range(count):
            joining.append(asyncio.create_task(self._one(), name="join one"))
            await asyncio.sleep(1 / JOINS_PER_S)
        await asyncio.gather(*joining)

    async def _one(self) -> None:
        loop = asyncio.get_running_loop()
        position = self._random.randrange(len(self._frames))
        try:
            transport, client = await loop.create_connection(
                lambda: Client(self._url, position, self), "127.0.0.1", self._port
            )
        except OSError as error:
            self.failures.append(f"could not connect: {error}")
            return
        try:
            await asyncio.wait_for(client.joined, JOIN_WITHIN_S)
        except asyncio.TimeoutError:
            self.failures.append(f"no `ready` within {JOIN_WITHIN_S:g} s")
            transport.abort()
            return
        except ConnectionError:
            return
        self._clients.add(client)
        # Clients are not in step: each has its own phase.
        first = time.perf_counter() + self._random.uniform(0, self._chunk_s)
        heapq.heappush(self._due, (first, next(self._order), client))

    def left(self, client: Client) -> None:
        self._clients.discard(client)

    def stop(self) -> None:
        """Have every session say that no more audio comes; each leaves once it is done."""
        self._due.clear()
        farewell = _framed(Opcode.TEXT, b'{"type":"stop"}')
        for client in self._clients:
            client.send(farewell)

    def reading(self) -> CrowdReading:
        lags, self._lags = self._lags, []
        cpu, wall = cpu_clock()
        return CrowdReading(
            cpu_s=cpu,
            wall_s=wall,
            joining=self._joining is not None and not self._joining.done(),
            sessions=len(self._clients),
            sent_s=self._chunks_sent * self._chunk_s,
            unsent_bytes=sum(client.transport.get_write_buffer_size() for client in self._clients),
            lag_ms=spread(lags),
            received=dict(self.received),
            failures=list(self.failures),
            processed_ms=self.processed_ms,
        )


def crowd_main(pipe: Connection, core: int, port: int, query: str, material: Material) -> None:
    """Speak to the server on that port until the pipe closes; answers every question with a `CrowdReading`."""
    # Ctrl-C reaches the whole group of processes; this one leaves when it is asked to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settle_on(core)
    run(_speak(pipe, Crowd(port, query, material)))


async def _speak(pipe: Connection, crowd: Crowd) -> None:
    ended = asyncio.Event()

    def reply(question: object) -> CrowdReading:
        if isinstance(question, Join):
            crowd.join(question.count)
        elif isinstance(question, Leave):
            crowd.stop()
        return crowd.reading()

    answer(pipe, reply, ended.set)
    sending = asyncio.create_task(crowd.run(), name="send")
    await ended.wait()
    sending.cancel()


def _framed(opcode: Opcode, payload: bytes) -> bytes:
    return Frame(opcode, payload).serialize(mask=True, extensions=())
