"""Bytes between a client and another process: all of them, in order, and no more at once than fits."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from streaming_asr.server.live import relay as relaying
from streaming_asr.server.live.relay import can_relay, relay
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


async def room() -> None:
    """Return once there may be one more relay."""
    while not can_relay():
        await asyncio.to_thread(time.sleep, 0.01)


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


def test_relays_are_bounded_and_those_that_end_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "_OPEN", set())
    monkeypatch.setattr(relaying, "MAX_RELAYS", 2)

    async def script() -> None:
        first, second = await relayed(), await relayed()
        assert not can_relay()
        for end in first:
            end.close()
        await room()
        for end in second:
            end.close()

    run(script())


def test_a_client_that_reads_nothing_is_cut_off_and_keeps_no_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "_OPEN", set())
    monkeypatch.setattr(relaying, "MAX_RELAYS", 1)
    monkeypatch.setattr(relaying, "UNREAD_TIMEOUT_S", 0.1)

    async def script() -> None:
        client, other = await relayed()
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(other, MUCH))
        await asyncio.wait([sending], timeout=0.1)
        sending.cancel()
        other.close()
        await room()
        client.close()

    run(script())
