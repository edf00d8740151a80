"""A replica's end of the channel to the supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from streaming_asr.server.replicas.channel import Channel, Message
from streaming_asr.server.replicas.issued_secrets import unpack
from streaming_asr.server.replicas.summed_metrics import sum_metrics

VARIABLE = "STREAMING_ASR_REPLICA"
"""Of the environment: what the supervisor starts a process as."""
REPORT_S = 0.1
"""Between two looks at whether there is something new to report."""
LONGEST_SILENCE_S = 1.0
METRICS_WAIT_S = 5.0
METRICS_SHARE, LONGEST_REST_S = 0.1, 1.0
"""Of a processor's time, what it may take to sum up metrics; how long whoever asks again waits for that at most."""
READY = "ready"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process is."""

    number: int
    """From 1."""
    count: int
    """Of all replicas."""
    descriptor: int
    """Of its end of the channel."""
    cores: tuple[int, ...] = ()
    """The only ones that it may use; empty: all."""

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps([self.number, self.count, self.descriptor, list(self.cores)])}

    @staticmethod
    def take() -> Identity | None:
        """That of this process, which the processes that it starts do not get; None if it is no replica."""
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        number, count, descriptor, cores = json.loads(text)
        return Identity(number, count, descriptor, tuple(cores))


@dataclass(frozen=True, slots=True)
class Report:
    """What the supervisor needs to know of a replica; see `placement.Place`."""

    status: str
    load: int
    parked: int
    room: bool


class Host(Protocol):
    """The server of this process, as far as the supervisor is concerned."""

    def report(self) -> Report:
        """Its state now."""

    def accept(self, connection: socket.socket) -> None:
        """Serve a client."""

    def accept_metrics(self, connection: socket.socket) -> None:
        """Serve whoever asks for the metrics at their own address."""

    def continue_claim(self, connection: socket.socket, received: bytes, client: tuple[str, int] | None) -> None:
        """Serve a client whose session is parked here, and that has connected to another replica.

        Args:
            received: all that it has sent, from the handshake on.
            client: its address, if the connection leads to the other replica, which speaks TLS with it.
        """

    def add_secret(self, digest: bytes, expires: float, session: bytes) -> None:
        """Accept a short-lived key that another replica has issued."""

    def metrics(self) -> bytes:
        """Of this process."""

    def drain(self) -> None:
        """Let the sessions finish, then end."""

    def exit(self) -> None:
        """End at once."""

    def abandoned(self) -> None:
        """The supervisor is gone: nobody brings clients any more."""


class Link:
    """Connects the server of this process with the supervisor, and so with the other replicas.

    Args:
        identity: of this process.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._channel: Channel | None = None
        self._host: Host | None = None
        self._received = 0
        """Connections that came."""
        self._last: Report | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._asked: asyncio.Future[Message] | None = None
        """The metrics of all replicas, which are on their way."""
        self._collecting: asyncio.Task[bytes] | None = None
        self._collect_at = 0.0
        """When the metrics may be collected again, on the event loop's clock."""
        self.statuses: Mapping[str, str] = {}
        """Number of each replica -> its status; of replicas that do not run, why not."""

    @property
    def number(self) -> int:
        return self._identity.number

    def open(self, host: Host) -> None:
        """Take connections from now on."""
        self._host = host
        end = socket.socket(fileno=self._identity.descriptor)
        self._channel = Channel(end, self._take, host.abandoned)
        self._reporting = asyncio.create_task(self._keep_reporting(), name="report to the supervisor")

    def close(self) -> None:
        """Report for the last time."""
        for task in (self._reporting, self._collecting):
            if task is not None:
                task.cancel()
        if self._channel is not None and self._host is not None:
            self._channel.send("metrics", body=self._host.metrics())
            self._channel.close()

    # What other replicas know, or get to know

    @property
    def any_ready(self) -> bool:
        return READY in self.statuses.values()

    def has_claimed(self, token: str) -> bool:
        """Whether the session of a token may be another replica's, so that its client has to be passed on."""
        number = token.partition(".")[0]
        return number != str(self.number) and self.statuses.get(number) == READY

    def pass_on(self, token: str, connection: socket.socket, received: bytes, client: tuple[str, int] | None) -> None:
        """Give a client to the replica that has its session; see `Host.continue_claim`. The socket is closed here."""
        to = int(token.partition(".")[0])
        self._send("claim", body=received, sockets=[connection], to=to, client=client)
        connection.close()

    def share_secret(self, digest: bytes, expires: float, session: bytes) -> None:
        """Let the other replicas accept a key, before its client has it."""
        if self._channel is not None:
            self._channel.send("secret", body=session, digest=digest.hex(), expires=expires)

    async def all_metrics(self) -> bytes:
        """Those of all replicas. Who asks while they are collected for others gets the same.

        Raises:
            asyncio.TimeoutError: the supervisor did not answer.
        """
        if self._collecting is None:
            self._collecting = asyncio.create_task(self._collect_metrics(), name="collect metrics")
            self._collecting.add_done_callback(self._collected)
        return await asyncio.shield(self._collecting)

    async def _collect_metrics(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._collect_at - loop.time())
        self._asked = loop.create_future()
        try:
            self._send("metrics?")
            message = await asyncio.wait_for(self._asked, METRICS_WAIT_S)
        finally:
            # What was not answered in time never is: a message may be lost when no more files can be opened.
            self._asked = None
        # Reading them takes tens of ms; the event loop has clients to serve.
        text, cost_s = await asyncio.to_thread(_sum, message)
        self._collect_at = loop.time() + min(LONGEST_REST_S, cost_s * (1 / METRICS_SHARE - 1))
        return text

    def _collected(self, collecting: asyncio.Task[bytes]) -> None:
        self._collecting = None
        if not collecting.cancelled():
            # Who asked may be gone.
            collecting.exception()

    # What comes from the supervisor

    def _take(self, message: Message) -> None:
        host = self._host
        assert host is not None
        if message.kind == "connection":
            self._received += 1
            self._take_connection(host, message)
            self._report(host.report())
        elif message.kind == "metrics connection" and message.sockets:
            host.accept_metrics(message.sockets[0])
        elif message.kind == "claim" and message.sockets:
            client = message.fields["client"]
            host.continue_claim(message.sockets[0], message.body, (client[0], client[1]) if client else None)
        elif message.kind == "secrets" and message.body:
            for secret in unpack(message.body):
                host.add_secret(bytes.fromhex(secret.digest), secret.expires, secret.session)
        elif message.kind == "statuses":
            self.statuses = message.fields["statuses"]
        elif message.kind == "drain":
            host.drain()
        elif message.kind == "exit":
            host.exit()
        elif message.kind == "metrics?":
            self._report(host.report())
            self._send("metrics", body=host.metrics())
        elif message.kind == "all metrics" and self._asked is not None and not self._asked.done():
            self._asked.set_result(message)

    def _take_connection(self, host: Host, message: Message) -> None:
        if message.sockets and (message.fields["keep"] or host.report().room):
            host.accept(message.sockets[0])
            return
        # The supervisor still has the socket.
        self._send("returned", id=message.fields["id"])
        for connection in message.sockets:
            connection.close()

    def _send(self, kind: str, **fields: Any) -> None:
        if self._channel is not None:
            self._channel.send(kind, **fields)

    def _report(self, report: Report) -> None:
        self._last = report
        self._send(
            "report",
            status=report.status,
            load=report.load,
            parked=report.parked,
            room=report.room,
            received=self._received,
        )

    async def _keep_reporting(self) -> None:
        loop = asyncio.get_running_loop()
        reported_at = -LONGEST_SILENCE_S
        while self._host is not None:
            report = self._host.report()
            if report != self._last or loop.time() >= reported_at + LONGEST_SILENCE_S:
                self._report(report)
                reported_at = loop.time()
            await asyncio.sleep(REPORT_S)


def _sum(message: Message) -> tuple[bytes, float]:
    """The metrics that the supervisor has collected, as those of one server, and the processor time that it took."""
    began = time.thread_time()
    texts: dict[int, bytes] = {}
    start = 0
    for number, size in message.fields["sizes"]:
        texts[number] = message.body[start : start + size]
        start += size
    text = sum_metrics(texts.pop(0), texts, dict(message.fields["deaths"]))
    return text, time.thread_time() - began
