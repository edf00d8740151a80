"""The supervisor, with replicas that only follow a script: what becomes of those that die, and of their connections."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas import restarts, supervisor
from streaming_asr.server.replicas.placement import MAX_ON_THE_WAY
from streaming_asr.server.replicas.shares import Share
from tests.support.wire import run

REPLICA = """
import array, json, os, socket, sys
number, count, descriptor, cores = json.loads(os.environ["STREAMING_ASR_REPLICA"])
end = socket.socket(fileno=descriptor)
def report(received=0, load=0):
    fields = {"status": "ready", "load": load, "parked": 0, "room": True, "received": received}
    end.send(json.dumps(["report", fields, 0, False]).encode())
def connections():
    while True:
        packet, descriptors, _, _ = socket.recv_fds(end, 65536, 2)
        if not packet:
            return
        kind, fields, _, _ = json.loads(packet)
        if kind == "drain":
            return
        if kind == "connection":
            yield fields["id"], socket.socket(fileno=descriptors[0])
"""
GREETS = (
    REPLICA
    + """
report(load=3)
for received, connection in connections():
    connection.sendall(b"from %d" % number)
    connection.close()
    report(received, load=3)
"""
)
"""Each connection is sent the number of the replica that it has reached."""
GREETS_OR_DIES = GREETS.replace("report(load=3)", "report(load=3)\nif number == 2: sys.exit(3)", 1)
GREETS_OR_DIES_OF_IT = GREETS.replace(
    "report(load=3)",
    """report(load=3 * (number == 2))
while number == 1:
    if end.recv(65536, socket.MSG_PEEK).startswith(b'["connection"'):
        os.kill(os.getpid(), 9)
    end.recv(65536)
""",
    1,
)
GREETS_LATE = GREETS.replace("report(load=3)", "report(load=3)\nimport time; time.sleep(0.5)", 1)
ISSUES_KEYS = (
    REPLICA
    + """
def begin():
    file = os.memfd_create("session")
    os.write(file, b"{}")
    for key in range(2000):
        packet = json.dumps(["secret", {"digest": "%d" % key, "expires": 1e9}, 0, True]).encode()
        socket.send_fds(end, [packet], [file])
    report()
    sys.exit(3)
received = 0
if number == 2:
    report(load=3)
    for received, connection in connections():
        connection.close()
        report(received, load=3)
    sys.exit()
end.settimeout(0.3)
try:
    packet, descriptors, _, _ = socket.recv_fds(end, 65536, 2)
    kind = json.loads(packet)[0]
    while kind != "secrets":
        packet, descriptors, _, _ = socket.recv_fds(end, 65536, 2)
        kind = json.loads(packet)[0]
except TimeoutError:
    begin()
end.settimeout(None)
file = open(descriptors[0])
file.seek(0)
keys = json.load(file)
report()
for received, connection in connections():
    connection.sendall(b"%d keys" % len(keys))
    connection.close()
    report(received)
"""
)
"""The first replica issues keys and ends; started again, it answers with the number of keys that it was sent."""
HANGS = REPLICA + "report(); import time; time.sleep(60)"
ALL_DIE = REPLICA + "report(); import time; time.sleep(0.05); sys.exit(3)"
NEVER_STARTS = "import sys; sys.exit(7)"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "FIRST_WAIT_S", 0.01)
    # Some of the scripts end only so.
    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.2)


class Log(logging.Handler):
    """What the supervisor has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"
        self._more.set()

    async def has(self, text: str, times: int = 1) -> None:
        """Return once it has this text."""
        while self.text.count(text) < times:
            self._more.clear()
            await self._more.wait()


Client = Callable[[int, Log], Awaitable[None]]
"""Is given the port."""


async def supervise(script: str, client: Client) -> int:
    """Run two replicas, and a client once both have been started; returns the exit status."""
    log = Log()
    supervisor.logger.addHandler(log)
    supervisor.logger.setLevel(logging.INFO)
    options = ServerOptions(port=0, replicas=2, drain_timeout_s=0)
    command = [sys.executable, "-I", "-S", "-c", script]
    running = asyncio.create_task(supervisor.Supervisor(options, command, [Share({}), Share({})]).run())
    started = asyncio.create_task(log.has("Replica 2 is process"))
    try:
        await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            port = int(log.text.partition("Listening on http://127.0.0.1:")[2].partition(" ")[0])
            await client(port, log)
            os.kill(os.getpid(), signal.SIGTERM)
        return await running
    finally:
        running.cancel()
        started.cancel()
        supervisor.logger.removeHandler(log)
        supervisor.logger.setLevel(logging.NOTSET)


async def answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read()
    finally:
        writer.close()


def test_each_replica_gets_connections_once_it_is_ready() -> None:
    async def client(port: int, log: Log) -> None:
        for number in (1, 2):
            while await answer(port) != b"from %d" % number:
                pass

    assert run(supervise(GREETS, client)) == 0


def test_a_replica_that_keeps_dying_is_given_up_and_the_other_goes_on() -> None:
    async def client(port: int, log: Log) -> None:
        await log.has("it is given up")
        assert log.text.count("Replica 2 ended with status 3") == restarts.MOST
        assert [await answer(port) for _ in range(3)] == [b"from 1"] * 3
        os.kill(os.getpid(), signal.SIGHUP)
        await log.has("it is given up", times=2)
        assert await answer(port) == b"from 1"

    assert run(supervise(GREETS_OR_DIES, client)) == 0


def test_the_server_ends_when_its_first_replica_cannot_start() -> None:
    async def client(port: int, log: Log) -> None:
        pytest.fail("another replica was started")

    assert run(supervise(NEVER_STARTS, client)) == 7


def test_the_server_ends_when_no_replica_is_left() -> None:
    async def client(port: int, log: Log) -> None:
        await log.has("No replica is left")

    assert run(supervise(ALL_DIE, client)) == supervisor.FAILED


def test_a_replica_that_hangs_is_killed_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HANGS_S", 0.5)

    async def client(port: int, log: Log) -> None:
        await log.has("has not answered")
        await log.has("ended by SIGKILL")
        await log.has("Replica 1 is process", times=2)

    assert run(supervise(HANGS, client)) == 0


def test_a_connection_that_a_replica_has_not_received_goes_to_another_when_it_dies() -> None:
    async def client(port: int, log: Log) -> None:
        assert await answer(port) == b"from 2"
        await log.has("Replica 1 ended by SIGKILL")

    assert run(supervise(GREETS_OR_DIES_OF_IT, client)) == 0


def test_connections_that_no_replica_receives_wait_to_be_accepted() -> None:
    """Each that is accepted takes descriptors, of which the supervisor has no more than others have."""
    clients = 300

    async def client(port: int, log: Log) -> None:
        before = len(os.listdir("/proc/self/fd"))
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]

        def accepted() -> int:
            return len(os.listdir("/proc/self/fd")) - before - clients

        while accepted() < 2 * MAX_ON_THE_WAY:
            await asyncio.to_thread(time.sleep, 0.01)
        # More of them would be there by then.
        await asyncio.sleep(0.1)
        assert accepted() == 2 * MAX_ON_THE_WAY
        for _, writer in opened:
            writer.close()

    assert run(supervise(HANGS, client)) == 0


def test_connections_that_waited_to_be_accepted_are_all_served() -> None:
    async def client(port: int, log: Log) -> None:
        answers = await asyncio.gather(*(answer(port) for _ in range(200)))
        assert {*answers} == {b"from 1", b"from 2"}

    assert run(supervise(GREETS_LATE, client)) == 0


def test_a_replica_that_starts_gets_all_keys_that_others_have_issued() -> None:
    async def client(port: int, log: Log) -> None:
        while await answer(port) != b"2000 keys":
            pass

    assert run(supervise(ISSUES_KEYS, client)) == 0
