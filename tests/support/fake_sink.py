"""A server that only listens: takes hundreds of streams of the native protocol and makes text up, without recognition.

    python -m tests.support.fake_sink --port 9400

It is there to find out what the load generator itself can drive.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

PARTIAL_EVERY = 16_000
"""Bytes: half a second of 16 kHz."""


async def listen(socket: ServerConnection) -> None:
    """One session: a partial for each half second, one final at the end."""
    with suppress(ConnectionClosed):
        await _listen(socket)


async def _listen(socket: ServerConnection) -> None:
    await socket.send(json.dumps({"type": "ready", "session": "s", "recognizer": "fake", "model": "sink"}))
    received, revision = 0, 0
    async for message in socket:
        if isinstance(message, str):
            if json.loads(message)["type"] == "stop":
                break
            continue
        received += len(message)
        if received // PARTIAL_EVERY > revision:
            revision = received // PARTIAL_EVERY
            await socket.send(_text("partial", revision, revision=revision, stable="word " * revision, tentative=""))
    await socket.send(_text("final", revision, text="word " * revision))
    await socket.send(json.dumps({"type": "done", "audio_ms": received // 32}))


def _text(kind: str, seconds: int, **fields: object) -> str:
    return json.dumps({"type": kind, "utterance": 1, "start_ms": 0, "time_ms": 500 * seconds, **fields})


async def main(port: int) -> None:
    async with serve(listen, "127.0.0.1", port, compression=None, ping_interval=None, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9400)
    uvloop.run(main(parser.parse_args().port))
