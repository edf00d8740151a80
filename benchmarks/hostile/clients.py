"""Clients that want to harm, one of each kind. Each goes on until it is cancelled, and connects again when cut off."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import json
import os
import random
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import av
import numpy as np
from websockets.frames import Frame, Opcode

from benchmarks.common.leaving import RawClient, frame, leave

NATIVE = "/v1/stream?sample_rate=16000"
OPENAI = "/v1/realtime?intent=transcription"
NICENESS = 10
"""What is measured is what a client does to the server, not that it needs a processor."""
AGAIN_S = 0.01
"""Between two connections of a client that is cut off."""
_QUIET = bytes(3200)
_COSTLY_S = 4.0
"""Length of a file that is costly to decode."""


class Server:
    """What the hostile client attacks.

    Args:
        pcm: speech, 16 bit little-endian mono at 16 kHz.
        tls: by which it is trusted, if it has TLS.
    """

    def __init__(self, host: str, port: int, pcm: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.host, self.port, self.pcm, self.tls = host, port, pcm, tls

    async def connect(self, path: str | None = NATIVE) -> RawClient:
        """A WebSocket; a bare connection without a path."""
        client = await RawClient.connect(self.host, self.port, self.tls)
        if path is not None:
            await client.upgrade(path)
        return client

    async def post(self, path: str, body: bytes, kind: str) -> RawClient:
        """Send a request; its answer is not read."""
        client = await self.connect(None)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.writer.write(head.encode() + body)
        await client.writer.drain()
        return client


Attack = Callable[[Server], Awaitable[None]]


async def _flood(server: Server, path: str, block: bytes, *, reads: bool) -> None:
    """Send the same bytes as fast as they are taken."""
    client = await server.connect(path)
    reading = asyncio.create_task(client.reader.read(2**40)) if reads else None
    if not reads:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        while True:
            client.writer.write(block)
            await client.writer.drain()
            await asyncio.sleep(0)
    finally:
        if reading is not None:
            reading.cancel()
        client.writer.transport.abort()


async def _pings(server: Server) -> None:
    block = Frame(Opcode.PING, b"p" * 125).serialize(mask=True) * 500
    await _flood(server, NATIVE, block, reads=False)


async def _tiny_frames(server: Server) -> None:
    await _flood(server, NATIVE, frame(b"\0") * 5000, reads=True)


async def _empty_fragments(server: Server) -> None:
    begin = Frame(Opcode.BINARY, b"", fin=False).serialize(mask=True)
    more = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 5000
    await _flood(server, NATIVE, begin + more + Frame(Opcode.CONT, b"").serialize(mask=True), reads=True)


async def _controls(server: Server) -> None:
    controls = ('{"type":"configure","endpoint_ms":300,"vad_threshold":0.4}', '{"type":"finalize"}', '{"type":"ping"}')
    await _flood(server, NATIVE, b"".join(frame(_QUIET) + frame(control) for control in controls) * 50, reads=True)


async def _large_json_unread(server: Server) -> None:
    update = {"type": "session.update", "session": {"type": "transcription", "nobody_knows": "x" * 1_000_000}}
    await _flood(server, OPENAI, frame(json.dumps(update)), reads=False)


async def _nested_json(server: Server) -> None:
    await _flood(server, OPENAI, frame('{"type":"session.update","session":' + "[" * 500_000), reads=True)


async def _audio_at_full_speed(server: Server) -> None:
    await _flood(
        server, NATIVE, b"".join(frame(server.pcm[at : at + 32_000]) for at in range(0, 320_000, 32_000)), reads=True
    )


async def _finalizes(server: Server) -> None:
    """Speech in real time, ended five times a second: each end is a final that others' finals compete with."""
    client = await server.connect()
    reading = asyncio.create_task(client.reader.read(2**40))
    try:
        for start in itertools.cycle(range(0, len(server.pcm), 6400)):
            await client.send(server.pcm[start : start + 6400], '{"type":"finalize"}')
            await asyncio.sleep(0.2)
    finally:
        reading.cancel()
        client.writer.transport.abort()


async def _leaves(server: Server) -> None:
    chance = random.Random(0)

    async def one() -> None:
        while True:
            with suppress(OSError, asyncio.TimeoutError):
                await leave(server.host, server.port, server.pcm[:64_000], chance, tls=server.tls)

    await asyncio.gather(*(one() for _ in range(20)))


async def _spoilt_handshakes(server: Server) -> None:
    while True:
        client = await server.connect(None)
        client.writer.write(client.request(NATIVE + "&keyword=" + "x" * 70_000))
        await client.until_closed()
        client.writer.close()


async def _idle_connections(server: Server) -> None:
    clients = []
    for number in range(500):
        clients.append(await server.connect(None))
        clients[-1].writer.write(clients[-1].request(NATIVE)[: number % 100])
    await asyncio.gather(*(client.until_closed() for client in clients))


async def _slow_uploads(server: Server) -> None:
    async def one() -> None:
        client = await server.connect(None)
        head = "Host: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length: 100000\r\n\r\n"
        client.writer.write(f"POST /v1/audio/transcriptions HTTP/1.1\r\n{head}".encode())
        for _ in range(1000):
            client.writer.write(b"x")
            await client.writer.drain()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(50)))


async def _uploads(server: Server, recording: bytes, at_once: int = 4) -> None:
    form = b'--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + recording + b"\r\n--X--\r\n"

    async def one() -> None:
        while True:
            client = await server.post("/v1/audio/transcriptions", form, "multipart/form-data; boundary=X")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 60)
            client.writer.close()

    await asyncio.gather(*(one() for _ in range(at_once)))


def _wav(rate: int, pcm: bytes) -> bytes:
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(pcm)) + b"WAVEfmt " + head + b"data" + struct.pack("<I", len(pcm)) + pcm


async def _long_recordings(server: Server) -> None:
    await _uploads(server, _wav(1000, bytes(2_000_000)))


async def _impossible_recordings(server: Server) -> None:
    await _uploads(server, _wav(1_073_741_824, bytes(16_000)))


async def _spoken_recordings(server: Server) -> None:
    await _uploads(server, _wav(16_000, server.pcm * max(1, 4_000_000 // len(server.pcm))))


async def _large_chats(server: Server) -> None:
    body = b'{"messages":[{"role":"user","content":"' + b"x" * (60 << 20) + b'"}]}'
    while True:
        client = await server.post("/v1/chat/completions", body, "application/json")
        await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 60)
        client.writer.close()


async def _client_secrets(server: Server) -> None:
    audio = {"input": {"transcription": {"prompt": "x" * 60_000}}}
    body = json.dumps({"session": {"type": "transcription", "audio": audio}}).encode()
    while True:
        client = await server.post("/v1/realtime/client_secrets", body, "application/json")
        await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 60)
        client.writer.close()


async def _costly_files(server: Server) -> None:
    """Files whose decoding takes nearly as long as they last, at twice the pace of speech, in as many sessions as may
    send files.
    """
    file = await asyncio.to_thread(_costly_file)

    async def one() -> None:
        while True:
            with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                client = await server.connect("/v1/stream?encoding=auto")
                closed = asyncio.create_task(client.until_closed())
                while not closed.done():
                    await client.send(file)
                    await asyncio.wait([closed], timeout=_COSTLY_S / 2)
            await asyncio.sleep(1)

    await asyncio.gather(*(one() for _ in range(32)))


@functools.cache
def _costly_file() -> bytes:
    """Opus of 64 channels of noise, in Ogg."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        options = {"mapping_family": "255", "b": "512k"}
        stream = container.add_stream("libopus", rate=48_000, layout="64 channels", options=options)
        chance = np.random.default_rng(0)
        for _ in range(int(_COSTLY_S / 0.02)):
            samples = chance.standard_normal((1, 64 * 960)).astype(np.float32) / 4
            audio = av.AudioFrame.from_ndarray(samples, format="flt", layout="64 channels")
            audio.sample_rate = 48_000
            container.mux(stream.encode(audio))
        container.mux(stream.encode(None))
    return file.getvalue()


async def _requests(server: Server) -> None:
    client = await server.connect(None)
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\n\r\n"
    while True:
        client.writer.write(request * 16)
        await client.writer.drain()
        if not await client.reader.read(2**20):
            return


async def _claims(server: Server) -> None:
    """Claim sessions that nobody has, of replicas that may be there: clients are passed on from one to the other."""

    async def one(number: int) -> None:
        while True:
            client = await server.connect(NATIVE + "&resume=claim")
            await client.send(json.dumps({"type": "resume", "token": f"{1 + number % 2}.forged", "seq": 0}))
            with suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(client.reader.read(4096), 10)
            client.reset()

    await asyncio.gather(*(one(number) for number in range(20)))


async def _connections(server: Server) -> None:
    """Connect and leave, without TLS's handshake even where there is TLS."""

    async def one() -> None:
        while True:
            client = await RawClient.connect(server.host, server.port)
            client.reset()

    await asyncio.gather(*(one() for _ in range(20)))


async def _tls_handshakes(server: Server) -> None:
    """Have the server sign its part of the handshake, which takes it the most, and leave."""
    sent = ssl.MemoryBIO()
    begun = (server.tls or ssl.create_default_context()).wrap_bio(ssl.MemoryBIO(), sent, server_hostname=server.host)
    with suppress(ssl.SSLWantReadError):
        begun.do_handshake()
    hello = sent.read()

    async def one() -> None:
        while True:
            client = await RawClient.connect(server.host, server.port)
            client.writer.write(hello)
            await client.reader.read(4096)
            client.reset()

    await asyncio.gather(*(one() for _ in range(20)))


async def _tiny_records(server: Server) -> None:
    """Frames of WebSocket in TLS records of a byte."""
    if server.tls is None:
        raise ValueError("the server has no TLS")
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    records = server.tls.wrap_bio(received, sent, server_hostname=server.host)
    client = await RawClient.connect(server.host, server.port)
    while True:
        try:
            records.do_handshake()
            break
        except ssl.SSLWantReadError:
            client.writer.write(sent.read())
            received.write(await client.reader.read(65536))
    records.write(client.request(NATIVE))
    client.writer.write(sent.read())
    await client.reader.read(65536)
    reading = asyncio.create_task(client.reader.read(2**40))
    try:
        for _ in itertools.count():
            for byte in frame(_QUIET):
                records.write(bytes((byte,)))
            client.writer.write(sent.read())
            await client.writer.drain()
            await asyncio.sleep(0)
    finally:
        reading.cancel()
        client.reset()


ATTACKS: Mapping[str, Attack] = {
    "pings, nothing read": _pings,
    "frames of a byte": _tiny_frames,
    "empty fragments": _empty_fragments,
    "controls": _controls,
    "1 MB of JSON, nothing read": _large_json_unread,
    "nested JSON": _nested_json,
    "audio at full speed": _audio_at_full_speed,
    "five finalizes a second": _finalizes,
    "20 that leave in any way": _leaves,
    "handshakes over the limit": _spoilt_handshakes,
    "500 idle connections": _idle_connections,
    "50 slow uploads": _slow_uploads,
    "4 recordings of silence": _long_recordings,
    "4 recordings of 1 GHz": _impossible_recordings,
    "4 recordings of speech": _spoken_recordings,
    "chats of 60 MB": _large_chats,
    "files that are costly to decode": _costly_files,
    "client secrets": _client_secrets,
    "requests of /metrics": _requests,
    "claims of sessions": _claims,
    "connections": _connections,
}
TLS_ATTACKS: Mapping[str, Attack] = {
    "TLS handshakes": _tls_handshakes,
    "TLS records of a byte": _tiny_records,
}
"""Against a server with TLS."""


def attack_alone(name: str, url: str, pcm: bytes) -> None:
    """Attack as a process of its own, until it is killed.

    Args:
        url: of the server, without a path.
    """
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    address = urlsplit(url)
    tls = ssl.create_default_context() if address.scheme == "wss" else None
    asyncio.run(_attack(name, Server(address.hostname or "", address.port or 80, pcm, tls)))


async def _attack(name: str, server: Server) -> None:
    while True:
        with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await {**ATTACKS, **TLS_ATTACKS}[name](server)
        await asyncio.sleep(AGAIN_S)
