"""Clients that leave in every way that a client or its network can, over every WebSocket protocol of this project.

None waits for the server to agree, and each leaves nothing behind on its own side.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.frames import Frame, Opcode

PATIENCE_S = 10.0
"""For each step in which the server has something to do."""
LINGER_NOT = struct.pack("ii", 1, 0)
"""`struct linger`: on, for no time; closing then resets the connection."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path of the server, and how its protocol sends audio and ends a stream."""

    path: str
    audio: Callable[[bytes], str | bytes]
    """Makes a message of 16 bit little-endian mono PCM at 16 kHz (the rate does not matter to those who leave)."""
    stop: Mapping[str, Any]
    before: bytes = b""
    """Goes before the audio: the head of a file."""


def _raw(pcm: bytes) -> str | bytes:
    return pcm


def _appended(pcm: bytes) -> str | bytes:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})


_OF_UNKNOWN_SIZE = 0xFFFFFFFF
_WAV_HEAD = struct.pack(
    "<4sI4s4sIHHIIHH4sI",
    *(b"RIFF", _OF_UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", _OF_UNKNOWN_SIZE),
)

ENDPOINTS = (
    Endpoint("/v1/stream?sample_rate=16000", _raw, {"type": "stop"}),
    Endpoint("/v1/stream?sample_rate=16000&resume=offer", _raw, {"type": "stop"}),
    Endpoint("/v1/stream?encoding=auto", _raw, {"type": "stop"}, _WAV_HEAD),
    Endpoint("/v1/realtime?intent=transcription", _appended, {"type": "input_audio_buffer.commit"}),
    Endpoint("/api-ws/v1/realtime?model=qwen3-asr-flash-realtime", _appended, {"type": "session.finish"}),
    Endpoint("/v1/listen?encoding=linear16&sample_rate=16000", _raw, {"type": "CloseStream"}),
    Endpoint("/v2/listen?model=flux-general-en&encoding=linear16&sample_rate=16000", _raw, {"type": "CloseStream"}),
)


class RawClient:
    """A WebSocket client on a socket, that sends only what it is asked to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext | None) -> None:
        self.reader = reader
        self.writer = writer
        self.tls = tls

    @classmethod
    async def connect(cls, host: str, port: int, tls: ssl.SSLContext | None = None) -> RawClient:
        return cls(*await asyncio.wait_for(asyncio.open_connection(host, port, ssl=tls), PATIENCE_S), tls)

    def request(self, path: str) -> bytes:
        """A handshake."""
        return (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()

    async def upgrade(self, path: str) -> int:
        """Shake hands; returns the HTTP status."""
        self.writer.write(self.request(path))
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        return int(head.split(b" ", 2)[1])

    async def send(self, *messages: str | bytes) -> None:
        """Send messages, each in a frame, and wait while the server does not read."""
        self.writer.write(b"".join(map(frame, messages)))
        await asyncio.wait_for(self.writer.drain(), PATIENCE_S)

    async def until_closed(self) -> None:
        """Read until the server closes the connection."""
        with suppress(OSError):
            while await asyncio.wait_for(self.reader.read(65536), PATIENCE_S):
                pass

    def end(self) -> None:
        """Send no more: half-close, or, with TLS, which has no such thing, close."""
        if self.tls is None:
            self.writer.write_eof()
        else:
            self.writer.close()

    def reset(self) -> None:
        """Close the connection by a reset."""
        # With TLS it may be gone already.
        with suppress(OSError, AttributeError):
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self.writer.transport.abort()


def frame(message: str | bytes, *, fin: bool = True) -> bytes:
    """A message as a client sends it."""
    opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
    data = message.encode() if isinstance(message, str) else message
    return Frame(opcode, data, fin).serialize(mask=True)


Way = Callable[[RawClient, Endpoint, bytes, random.Random], Awaitable[None]]
"""Connects at the HTTP level and leaves; the audio is what the client would say."""


async def _spoken(client: RawClient, endpoint: Endpoint, pcm: bytes) -> None:
    if await client.upgrade(endpoint.path) == 101:
        if endpoint.before:
            await client.send(endpoint.before)
        await client.send(*(endpoint.audio(pcm[start : start + 6400]) for start in range(0, len(pcm), 6400)))


async def _lets_go(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    client.writer.transport.abort()


async def _resets(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    client.reset()


async def _half_closes(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    client.end()
    await client.until_closed()


async def _closes(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    client.writer.write(Frame(Opcode.CLOSE, struct.pack(">H", 1000)).serialize(mask=True))
    await client.until_closed()


async def _in_mid_frame(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    whole = frame(endpoint.audio(pcm[:3200]))
    client.writer.write(whole[: chance.randrange(1, len(whole))])
    client.reset() if chance.random() < 0.5 else client.writer.transport.close()


async def _in_mid_message(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    client.writer.write(frame(endpoint.audio(pcm[:3200]), fin=False))
    client.reset()


async def _in_mid_handshake(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    request = client.request(endpoint.path)
    client.writer.write(request[: chance.randrange(1, len(request))])
    if chance.random() < 0.5:
        client.reset()
        return
    client.end()
    await client.until_closed()


async def _before_the_handshake_is_answered(
    client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random
) -> None:
    client.writer.write(client.request(endpoint.path) + frame(endpoint.audio(pcm)))
    await asyncio.sleep(chance.uniform(0, 0.01))
    client.reset()


async def _unread(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(*(json.dumps({"type": "ping", "id": number}) for number in range(50)), json.dumps(endpoint.stop))
    await asyncio.sleep(chance.uniform(0, 0.3))
    client.reset()


async def _after_stop(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    await _spoken(client, endpoint, pcm)
    await client.send(json.dumps(endpoint.stop))
    await asyncio.sleep(chance.uniform(0, 0.1))
    client.reset() if chance.random() < 0.5 else client.writer.transport.abort()


async def _comes_back(client: RawClient, endpoint: Endpoint, pcm: bytes, chance: random.Random) -> None:
    """Resume the session on another connection, and be lost again; where there is none to resume, be lost once."""
    await _spoken(client, endpoint, pcm)
    token = b""
    if "resume=offer" in endpoint.path:
        ready = await asyncio.wait_for(client.reader.readuntil(b'"resumed"'), PATIENCE_S)
        token = ready.partition(b'"token":"')[2].partition(b'"')[0]
    client.reset()
    if not token:
        return
    host, port = client.writer.get_extra_info("peername")[:2]
    again = await RawClient.connect(host, port, client.tls)
    try:
        if await again.upgrade(endpoint.path.replace("offer", "claim")) == 101:
            await again.send(json.dumps({"type": "resume", "token": token.decode(), "seq": 0}), endpoint.audio(pcm))
            await asyncio.wait_for(again.reader.readuntil(b'"resumed":true'), PATIENCE_S)
    finally:
        again.reset()


WAYS: Mapping[str, Way] = {
    "lets go": _lets_go,
    "resets": _resets,
    "half-closes": _half_closes,
    "sends a close": _closes,
    "leaves in mid-frame": _in_mid_frame,
    "leaves in mid-message": _in_mid_message,
    "leaves in mid-handshake": _in_mid_handshake,
    "leaves before the handshake is answered": _before_the_handshake_is_answered,
    "reads nothing": _unread,
    "leaves after stop": _after_stop,
    "comes back": _comes_back,
}


async def leave(
    host: str,
    port: int,
    pcm: bytes,
    chance: random.Random,
    way: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> str:
    """Connect to any endpoint, say a part of the audio and leave; returns the way.

    Args:
        way: of `WAYS`; None takes any.
        tls: by which the server is trusted, if it has TLS.

    Raises:
        OSError: the server takes no connection.
        asyncio.TimeoutError: the server did not answer.
    """
    way = way or chance.choice(tuple(WAYS))
    client = await RawClient.connect(host, port, tls)
    try:
        # A reset by the server is an end like others.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await WAYS[way](client, chance.choice(ENDPOINTS), pcm[: 2 * chance.randrange(len(pcm) // 2 + 1)], chance)
    finally:
        client.writer.close()
        with suppress(OSError):
            await client.writer.wait_closed()
    return way
