"""Messages in every protocol over real sockets, to a server in a process of its own: nearly right ones, and spoilt
frames and handshakes.

What must hold: the server lives, no connection is left without an answer or an end, none ends by a fault of the
server's, nothing is logged as an exception, and in the end no session, task or descriptor is left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from websockets.frames import Opcode

from benchmarks.common.leaving import RawClient, frame
from streaming_asr.core.options import SessionOptions
from streaming_asr.server.options import ServerOptions
from tests.fuzz.conversations import SEEDS
from tests.fuzz.mutation import mutated
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.watched import DIALECTS

AT_ONCE = 16
"""Connections."""
SPARE_DESCRIPTORS = 2
"""Of the decoder that waits for the next recording, which a client's audio may have been taken for."""
ENDS_WITHIN_S = 60.0
"""A connection, from its handshake to its end."""


@dataclass
class Found:
    """What the clients saw."""

    messages: int = 0
    answers: int = 0
    connections: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """By close code, or how else they ended."""
    wrong: list[str] = field(default_factory=list)


def fuzz_socket(messages: int, seed: int) -> int:
    """Send that many messages; prints what came of them, and returns the exit status."""
    ours, theirs = multiprocessing.Pipe()
    spawning = multiprocessing.get_context("spawn")
    process = spawning.Process(target=serve_fakes, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        found = asyncio.run(_fuzz(ours.recv(), process.pid or 0, messages, seed))
        ours.send(None)
        tracebacks: list[str] = ours.recv()
    finally:
        process.terminate()
        process.join()
    found.wrong += [f"logged: {line}" for line in tracebacks[:5]]
    print(f"socket: {found.messages} messages, {found.answers} answers, {found.connections} connections")
    print("ends:", ", ".join(f"{end} {count}" for end, count in found.ends.most_common()))
    for line in found.wrong[:20]:
        print("WRONG:", line)
    return int(bool(found.wrong))


def serve_fakes(pipe: Connection) -> None:
    """The server: sends its port, then on request what was logged as an exception."""
    from streaming_asr.server import serve as serving

    faults: list[str] = []

    class Faults(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info or record.levelno >= logging.ERROR:
                faults.append(
                    f"{record.getMessage()}: {record.exc_info[1]!r}" if record.exc_info else record.getMessage()
                )
            elif (text := record.getMessage()).startswith("Listening on "):
                port.append(int(text.partition(" (")[0].rpartition(":")[2]))

    port: list[int] = []
    logging.basicConfig(level=logging.INFO, handlers=[Faults()])
    options = ServerOptions(port=0, session=SessionOptions(vad="webrtc"), final_objective_s=600.0)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        serving_task = asyncio.create_task(serving.serve(FakeRecognizer(), options))
        while not port:  # noqa: ASYNC110 - what it logs is no event
            await asyncio.sleep(0.05)
        pipe.send(port[0])
        loop.add_reader(pipe.fileno(), lambda: pipe.send(faults) if pipe.recv() is None else None)
        await serving_task

    try:
        import uvloop
    except ImportError:
        asyncio.run(run())
    else:
        uvloop.run(run())


async def _fuzz(port: int, pid: int, messages: int, seed: int) -> Found:
    found = Found()
    before = await _resources(port, pid)
    began = shown = time.monotonic()
    numbers = iter(range(10**9))

    async def client() -> None:
        nonlocal shown
        while found.messages < messages and len(found.wrong) < 20:
            chance = random.Random(f"socket {seed} {next(numbers)}")
            try:
                await asyncio.wait_for(_connection(port, chance, found), ENDS_WITHIN_S)
            except asyncio.TimeoutError:
                found.wrong.append("a connection neither answered nor ended")
            except ConnectionRefusedError as error:
                found.wrong.append(f"the server is gone: {error}")
                return
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(f"{found.messages} of {messages}, {shown - began:.0f} s", flush=True)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    after = before
    for _ in range(100):
        await asyncio.sleep(0.1)
        after = await _resources(port, pid)
        if after <= before:
            break
    names = ("sessions", "tasks", "descriptors")
    for name, was, is_now, spare in zip(names, before, after, (0, 0, SPARE_DESCRIPTORS), strict=True):
        if is_now > was + spare:
            found.wrong.append(f"{is_now} {name} are left, and {was} were there before")
    return found


async def _resources(port: int, pid: int) -> tuple[int, ...]:
    """Sessions, tasks and descriptors of the server."""
    client = await RawClient.connect("127.0.0.1", port)
    client.writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await client.reader.read()).decode()
    client.writer.close()

    def total(name: str) -> int:
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines if line[len(name)] in " {"))

    # One of the tasks is that of this request, and one descriptor its socket.
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir())) if os.path.isdir(f"/proc/{pid}/fd") else 0
    return total("streaming_asr_sessions"), total("streaming_asr_event_loop_tasks"), descriptors


async def _connection(port: int, chance: random.Random, found: Found) -> None:
    """One connection: a handshake, messages, and an end of any kind."""
    dialect = chance.choice(tuple(DIALECTS))
    path, first = DIALECTS[dialect]
    client = await RawClient.connect("127.0.0.1", port)
    found.connections += 1
    reading: asyncio.Task[str] | None = None
    try:
        if chance.random() < 0.05:
            client.writer.write(mutated([client.request(f"{path}?x=1")], chance) + b"\r\n\r\n")
            found.messages += 1
            client.writer.write_eof()
            await client.until_closed()
            found.ends["spoilt handshake"] += 1
            return
        status = await client.upgrade(path)
        if status != 101:
            found.ends[f"HTTP {status}"] += 1
            if status >= 500:
                found.wrong.append(f"{path}: HTTP {status}")
            return
        reading = asyncio.create_task(_read(client, found))
        messages = [message for _ in range(chance.randrange(1, 30)) for message in _messages(dialect, chance)]
        sent = [first, *messages] if first else messages
        found.messages += len(sent)
        data = b"".join(frame(message) for message in sent)
        if chance.random() < 0.1:
            data = mutated([data], chance)
        with suppress(OSError, asyncio.TimeoutError):
            client.writer.write(data)
            await client.writer.drain()
            if chance.random() < 0.7:
                client.writer.write(frame('{"type":"stop"}'))
                client.writer.write(b"\x88\x82\0\0\0\0" + struct.pack(">H", 1000))
            client.writer.write_eof()
        found.ends[await reading] += 1
    except (ConnectionError, asyncio.IncompleteReadError):
        found.ends["reset"] += 1
    finally:
        if reading is not None:
            reading.cancel()
        client.writer.close()


def _messages(dialect: str, chance: random.Random) -> Sequence[str | bytes]:
    """The messages of a changed seed, whose steps are left out."""
    found: list[str | bytes] = []
    for line in mutated(SEEDS[dialect], chance).split(b"\n"):
        if line[:1] == b"!":
            found.append(bytes(chance.randrange(0, 3200)))
            continue
        try:
            found.append(line.decode() if line[:1] >= b" " else line)
        except UnicodeDecodeError:
            found.append(line)
    return found


async def _read(client: RawClient, found: Found) -> str:
    """Read frames to the end; returns how the connection ended."""
    reader = client.reader
    while True:
        try:
            head = await reader.readexactly(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            data = await reader.readexactly(size)
        except (ConnectionError, asyncio.IncompleteReadError):
            return "no close"
        opcode = head[0] & 0x0F
        if opcode == Opcode.CLOSE:
            code = int.from_bytes(data[:2], "big")
            if code == 1011:
                found.wrong.append(f"a fault of the server's: {data[2:]!r}")
            return str(code)
        if opcode == Opcode.TEXT:
            found.answers += 1
            json.loads(data)
        elif opcode not in (Opcode.PING, Opcode.PONG):
            found.wrong.append(f"a frame of kind {opcode}")
