"""A TCP proxy that breaks the connections it carries, in the ways that networks do."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_RESET = struct.pack("ii", 1, 0)
"""`struct linger`: closing the socket resets the connection."""


class Fault(enum.Enum):
    RESET = "reset"
    """Both ends get a reset, as when a router forgets the connection."""
    HANG_UP = "hang up"
    """Both ends see the end of the stream, as when the other process was killed."""
    HALF_OPEN = "half-open"
    """The client gets a reset; for the server the connection stays open, and nothing comes any more."""
    SILENCE = "silence"
    """Nothing is carried any more, and neither end is notified."""


class _Pair:
    """A connection of a client, and the one to the server that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client, self._server = client, server
        self._carrying = asyncio.Event()
        self._carrying.set()

    async def carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                await self._carrying.wait()
                count(len(data))
                sink.write(data)
                await sink.drain()
            await self._carrying.wait()
            sink.close()

    def suffer(self, fault: Fault) -> None:
        if fault is Fault.HANG_UP:
            self._client.close()
            self._server.close()
            return
        self._carrying.clear()
        if fault in (Fault.RESET, Fault.HALF_OPEN):
            _reset(self._client)
        if fault is Fault.RESET:
            _reset(self._server)

    def close(self) -> None:
        _reset(self._client)
        _reset(self._server)


class ChaosProxy:
    """Carries connections from a port of its own to a server's; use as a context manager.

    Args:
        port: of the server, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._pairs: set[_Pair] = set()
        """Those that carry."""
        self._broken: list[_Pair] = []
        self.accepted = 0
        """Connections so far."""
        self.sent_bytes = 0
        """What clients have sent so far, over all connections."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos proxy", daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def carried(self) -> int:
        """Connections that are carried now."""
        return len(self._pairs)

    def redirect(self, port: int) -> None:
        """Carry connections from now on to another server; those that are carried stay where they are."""
        self._to = port

    def suffer(self, fault: Fault) -> int:
        """Break all connections that are carried now; returns how many."""
        return self._run(self._suffer(fault))

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for pair in (*self._pairs, *self._broken):
            pair.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _suffer(self, fault: Fault) -> int:
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.suffer(fault)
        self._broken += pairs
        return len(pairs)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(writer, to_server)
        self._pairs.add(pair)
        try:
            # Cancelled at the end, where a pair is broken.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(
                    pair.carry(reader, to_server, self._sent), pair.carry(from_server, writer, lambda size: None)
                )
        finally:
            self._pairs.discard(pair)

    def _sent(self, size: int) -> None:
        self.sent_bytes += size

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
