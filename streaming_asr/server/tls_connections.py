"""Connections with TLS whose work is bounded: handshakes in number and in their share of the event loop, and of each
connection what its records cost. asyncio's own are not: a client that sends records of a byte, or begins one handshake
after the other, could keep the event loop busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from streaming_asr.server.addresses import PerAddress
from streaming_asr.server.live.fair_loop import Account, FairLoop
from streaming_asr.server.live.websocket import TURN_BYTES

logger = logging.getLogger(__name__)

HANDSHAKE_SHARE = 0.1
"""Of the event loop's time, what the handshakes of one address have while somebody speaks."""
HANDSHAKE_COST_S = 0.002
"""Processor time of one, about; most of it is the signature."""
MAX_WAIT_S = 4.0
"""Of a handshake, for its share."""


class TlsConnections:
    """Shakes hands, and hands over what is connected. Needs an event loop.

    Args:
        most: handshakes under way at once, those that wait included. One more takes the place of the one that has
            taken the longest; without that, one client could keep all others out.
        timeout_s: for each of them.
        fair_loop: whether somebody speaks, whom they could slow.
    """

    def __init__(self, context: ssl.SSLContext, most: int, timeout_s: float, fair_loop: FairLoop) -> None:
        self._context = context
        self._most = most
        self._timeout_s = timeout_s
        self._fair_loop = fair_loop
        self._addresses = PerAddress(lambda: Account(share=HANDSHAKE_SHARE))
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """Those under way, the one that has taken the longest first."""

    def __len__(self) -> int:
        """Handshakes under way."""
        return len(self._handshakes)

    def begin(self, accepted: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Shake hands with a client.

        Args:
            make: the protocol of the connection; it is connected after the handshake.
        """
        if len(self._handshakes) >= self._most:
            longest = next(iter(self._handshakes))
            del self._handshakes[longest]
            longest.cancel()
        handshake = asyncio.get_running_loop().create_task(self._shake(accepted, make), name="TLS handshake")
        self._handshakes[handshake] = None
        handshake.add_done_callback(lambda ended: self._handshakes.pop(ended, None))

    def close(self) -> None:
        """Give up all handshakes."""
        for handshake in list(self._handshakes):
            handshake.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    async def _shake(self, accepted: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._wait_for_turn(accepted)
        except OSError:  # The client is gone.
            accepted.close()
            return
        except asyncio.CancelledError:
            accepted.close()
            raise
        records, early = _Records(self._fair_loop), _Early()
        try:
            raw, _ = await loop.connect_accepted_socket(lambda: records, accepted)
        except OSError as error:
            logger.debug("A connection broke before its TLS handshake: %s", error)
            return
        starting = loop.create_task(
            loop.start_tls(raw, early, self._context, server_side=True, ssl_handshake_timeout=self._timeout_s)
        )
        try:
            # Now it has set its own protocol, which has not been connected yet.
            await asyncio.sleep(0)
            records.serve(raw)
            transport = await starting
        except (
            OSError,
            RuntimeError,
        ) as error:  # Of TLS itself, after the time, or of a socket that is closed already.
            logger.debug("A TLS handshake failed: %s", error)
            return
        except asyncio.CancelledError:
            starting.cancel()
            # It may not have begun, and would leave the socket open.
            raw.abort()
            raise
        if transport is not None:
            early.give(transport, make())

    async def _wait_for_turn(self, accepted: socket.socket) -> None:
        account = self._addresses.get(accepted.getpeername()[0])
        wait_s = min(MAX_WAIT_S, self._fair_loop.wait_s(account))
        # Now, so that the next one waits for this one, too.
        account.charge(HANDSHAKE_COST_S)
        if wait_s:
            await asyncio.sleep(wait_s)


class _Records(asyncio.BufferedProtocol):
    """Goes between a socket and asyncio's TLS: gives it little at a time, and measures what that costs."""

    def __init__(self, fair_loop: FairLoop) -> None:
        self._fair_loop = fair_loop
        self._account = Account()
        self._raw: asyncio.Transport | None = None
        self._tls: Any = None
        """Of asyncio or uvloop, once it is there."""
        self._before = bytearray()
        """Received before it was."""
        self._buffer = bytearray(TURN_BYTES)
        self._lost: list[Exception | None] = []
        self._resuming: asyncio.TimerHandle | None = None

    def serve(self, raw: asyncio.Transport) -> None:
        """Give what comes to the TLS that has just been set as the protocol of the socket."""
        self._raw, self._tls = raw, raw.get_protocol()
        if not hasattr(self._tls, "get_buffer"):
            # That of asyncio before Python 3.11.
            return
        raw.set_protocol(self)
        # Behind what connects it.
        asyncio.get_running_loop().call_soon(self._give_before)

    def _give_before(self) -> None:
        before, self._before = bytes(self._before), bytearray()
        while before and self._tls is not None:
            view = self.get_buffer(len(before))
            size = min(len(view), len(before))
            view[:size] = before[:size]
            before = before[size:]
            self.buffer_updated(size)
        if self._lost:
            self.connection_lost(self._lost[0])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._tls is not None:
            self._tls.connection_made(transport)

    def get_buffer(self, sizehint: int) -> Any:
        if self._tls is None:
            return memoryview(self._buffer)
        return memoryview(self._tls.get_buffer(sizehint))[:TURN_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        if self._tls is None:
            self._before += self._buffer[:nbytes]
            return
        began = time.thread_time()
        self._tls.buffer_updated(nbytes)
        self._account.charge(time.thread_time() - began)
        raw = self._raw
        wait_s = self._fair_loop.wait_s(self._account)
        # If it is not read, TLS wants it so, and will want it to be read again.
        if wait_s and raw is not None and raw.is_reading():
            raw.pause_reading()
            self._resuming = asyncio.get_running_loop().call_later(wait_s, self._resume)

    def _resume(self) -> None:
        if self._raw is not None and not self._raw.is_closing():
            self._raw.resume_reading()

    def eof_received(self) -> bool | None:
        kept_open: bool | None = self._tls.eof_received() if self._tls is not None else False
        return kept_open

    def connection_lost(self, exc: Exception | None) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
        if self._tls is None:
            self._lost.append(exc)
            return
        self._tls.connection_lost(exc)
        # Each has some 300 KB of buffers, which would live until reference cycles are collected.
        self._raw = self._tls = None

    def pause_writing(self) -> None:
        if self._tls is not None:
            self._tls.pause_writing()

    def resume_writing(self) -> None:
        if self._tls is not None:
            self._tls.resume_writing()


class _Early(asyncio.Protocol):
    """Keeps what comes with the end of the handshake, until the connection has its protocol."""

    def __init__(self) -> None:
        self._received: list[bytes] = []
        self._ended = False
        self._lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self._received.append(data)

    def eof_received(self) -> None:
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.append(exc)

    def give(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Connect the protocol, and give it what has come."""
        if self._lost:
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._received:
            # It may be another one by now.
            with contextlib.suppress(AttributeError):
                transport.get_protocol().data_received(b"".join(self._received))  # type: ignore[attr-defined]
        if self._ended:
            protocol.eof_received()
