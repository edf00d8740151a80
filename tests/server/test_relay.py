"""Bytes between a client and another process: all of them, in order, and no more at once than fits."""

from __future__ import annotations

import asyncio
import socket

from streaming_asr.server.live.relay import relay
from tests.support.wire import run

MUCH = bytes(range(256)) * 2**17
"""32 MiB."""


async def relayed() -> tuple[socket.socket, socket.socket]:
    """What a client has, and what the other process has."""
    client, accepted = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
    transport.pause_reading()
    other = relay(transport)
    client.setblocking(False)
    other.setblocking(False)
    return client, other


async def receive(end: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size and (data := await asyncio.get_running_loop().sock_recv(end, 2**16)):
        received += data
    return bytes(received)


def test_all_bytes_pass_in_both_directions_and_wait_for_a_slow_reader() -> None:
    async def script() -> None:
        loop = asyncio.get_running_loop()
        client, other = await relayed()
        for sender, receiver in ((client, other), (other, client)):
            sending = asyncio.create_task(loop.sock_sendall(sender, MUCH))
            done, _ = await asyncio.wait([sending], timeout=0.2)
            assert not done, "nobody reads, and all was taken"
            assert await receive(receiver, len(MUCH)) == MUCH
            await sending

    run(script())


def test_when_one_end_closes_the_other_is_closed() -> None:
    async def script() -> None:
        for number in (0, 1):
            ends = await relayed()
            ends[number].close()
            assert await receive(ends[1 - number], 1) == b""
            ends[1 - number].close()

    run(script())
