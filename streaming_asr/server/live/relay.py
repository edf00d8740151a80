"""Copies bytes between a client whose TLS this process alone can read, and another process that serves it."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

MAX_RELAYS = 500
"""At once. Each takes two descriptors; a client for whom there is none gets a new session."""
UNREAD_TIMEOUT_S = 60.0
"""How long a client may read nothing while what is for it does not fit into the buffers between. Meanwhile the other
process is not read, so that its end would not be noticed."""


class _Side(asyncio.Protocol):
    """One of the two ends."""

    def __init__(self, transport: asyncio.Transport | None = None) -> None:
        self.other: _Side
        self.connecting: asyncio.Task[None] | None = None
        """Kept, or it might be collected."""
        self._transport = transport
        self._early = bytearray()
        """For it, before it was connected. The other end is not read until then, so that this is short."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are of no such class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(bytes(self._early))

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        _OPEN.discard(self)
        self.other.close()

    def pause_writing(self) -> None:
        self.other.read(on=False)

    def resume_writing(self) -> None:
        self.other.read(on=True)

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._early += data
        elif not self._transport.is_closing():
            self._transport.write(data)

    def read(self, *, on: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Near(_Side):
    """The end of the client."""

    _unread_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        assert self._transport is not None
        self._unread_timer = asyncio.get_running_loop().call_later(UNREAD_TIMEOUT_S, self._transport.abort)

    def resume_writing(self) -> None:
        self._read()
        super().resume_writing()

    def _read(self) -> None:
        """The client has read something, or is gone."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()


_OPEN: set[_Side] = set()
"""Those that are not closed: nobody else keeps them, as event loops do not keep a transport that is not read."""


def can_relay() -> bool:
    """Whether there may be one more."""
    return len(_OPEN) < 2 * MAX_RELAYS


def relay(client: asyncio.Transport) -> socket.socket:
    """Begin to copy, in both directions, until either end closes.

    Args:
        client: is not read now; this reads it again.

    Returns:
        The socket for the other process.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    near, far = _Near(client), _Side()
    near.other, far.other = far, near
    _OPEN.update((near, far))
    client.set_protocol(near)
    near.connecting = asyncio.get_running_loop().create_task(_connect(near, far, ours), name="relay")
    return theirs


async def _connect(near: _Near, far: _Side, ours: socket.socket) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: far, ours)
    except OSError:
        _OPEN.discard(far)
        near.close()
        return
    near.read(on=True)
