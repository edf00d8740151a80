"""A server that follows a script: a real WebSocket on a real port, without recognition."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

OPTIONS = {"pre_roll_ms": 300, "onset_ms": 96, "max_utterance_s": 30}


class FakeConnection:
    """One connection, as the script sees it."""

    def __init__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.socket = socket
        self.query = dict(parse_qsl(urlsplit(socket.request.path).query))
        self.headers = socket.request.headers
        self.audio = bytearray()
        self.received: list[dict[str, Any]] = []
        """Text messages, without pings."""

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def ready(self, **options: Any) -> None:
        await self.send("ready", session="f1", recognizer="fake", model="script", options={**OPTIONS, **options})

    async def final(self, utterance: int, text: str, start_ms: int, time_ms: int, **fields: Any) -> None:
        await self.send("final", utterance=utterance, text=text, start_ms=start_ms, time_ms=time_ms, **fields)

    async def fail(self, code: str, close: int, message: str = "It is so.") -> None:
        """A fatal error, and the close that follows it."""
        await self.send("error", code=code, message=message, fatal=True)
        await self.socket.close(close, code)

    async def receive(self) -> bytes | dict[str, Any]:
        """The next message. Pings are answered, because clients that keep audio send them at any time."""
        while True:
            message = await self.socket.recv()
            if isinstance(message, bytes):
                self.audio += message
                return message
            control: dict[str, Any] = json.loads(message)
            if control["type"] == "ping":
                await self.send("pong", id=control["id"])
                continue
            self.received.append(control)
            return control

    async def receive_audio(self, size: int) -> None:
        """Receive until this many bytes of audio came in all."""
        while len(self.audio) < size:
            await self.receive()

    async def receive_control(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message["type"] == kind:
                return message

    async def finish(self, rate: int = 16_000) -> None:
        """Receive up to the stop, then send `done`."""
        await self.receive_control("stop")
        await self.send("done", audio_ms=len(self.audio) * 1000 // (2 * rate))

    def vanish(self) -> None:
        """As if the process had been killed."""
        self.socket.transport.abort()


Script = Callable[[FakeConnection], Awaitable[None]]


class FakeServer:
    """Serves one connection after the other, each by its script; the last script serves all that follow.

    Args:
        refusal: status and body with which every handshake is refused.
    """

    def __init__(
        self, *scripts: Script, port: int = 0, refusal: tuple[int, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.connections: list[FakeConnection] = []
        self.port = port
        self._scripts = scripts
        self._refusal = refusal
        self._tls = tls

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://localhost:{self.port}/v1/stream"

    async def __aenter__(self) -> FakeServer:
        self._server = await serve(
            self._serve, "127.0.0.1", self.port, process_request=self._refuse, ssl=self._tls, close_timeout=1
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _refuse(self, socket: ServerConnection, request: Request) -> Response | None:
        if self._refusal is None:
            return None
        status, body = self._refusal
        response = socket.respond(HTTPStatus(status), body)
        return response

    async def _serve(self, socket: ServerConnection) -> None:
        connection = FakeConnection(socket)
        self.connections.append(connection)
        script = self._scripts[min(len(self.connections), len(self._scripts)) - 1]
        try:
            await script(connection)
        except (ConnectionClosed, asyncio.CancelledError):
            return
