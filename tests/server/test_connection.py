"""A connection over a socket on paper: what a slow client and a faulty network come to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect, WebSocketState

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Handshake
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.server.live.connection import Connection, conversation_limits
from streaming_asr.server.live.fair_loop import Account
from streaming_asr.server.live.live_conversation import LiveConversation
from streaming_asr.server.metrics import ConversationMetrics
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.service import Service
from streaming_asr.voice import silero
from tests.support.conversing import command, voiced
from tests.support.fake_recognizer import FakeRecognizer


class FakeWebSocket:
    """A WebSocket of any ASGI server; its client reads while `reads` is set."""

    application_state = WebSocketState.CONNECTED

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.sent: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.closed = asyncio.Event()
        self.gone = False
        """Whether the client is gone when the server closes."""

    async def receive(self) -> dict[str, Any]:
        message = await self.inbox.get()
        self.inbox.task_done()
        return message

    async def send_text(self, message: str) -> None:
        await self.reads.wait()
        self.sent.append(json.loads(message))

    async def close(self, code: int, reason: str) -> None:
        await self.reads.wait()
        self.closed.set()
        self.inbox.put_nowait({"type": "websocket.disconnect"})
        if self.gone:
            raise WebSocketDisconnect(code=1006)
        self.close_code = code

    def give(self, *messages: str | bytes) -> None:
        for message in messages:
            key = "text" if isinstance(message, str) else "bytes"
            self.inbox.put_nowait({"type": "websocket.receive", key: message})


def _connected(script: Callable[[FakeWebSocket, Service], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        service = Service(FakeRecognizer(), ServerOptions(**options))
        await service.start()
        socket = FakeWebSocket()
        translator = NativeTranslator(Handshake("/v1/stream"), SessionOptions(vad="silero"))
        live = LiveConversation(
            translator,
            service,
            conversation_limits(service.options),
            ConversationMetrics(service.metrics, "/v1/stream"),
            service.voice,
            service.turns,
            service.parking,
            service.files,
        )
        connection = Connection(socket, live, service, None, Account())  # type: ignore[arg-type]
        running = asyncio.create_task(connection.run())
        await script(socket, service)
        await running
        assert service.metrics.sessions.labels("/v1/stream")._value.get() == 0
        await service.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_client_that_is_gone_before_the_close_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def script(socket: FakeWebSocket, service: Service) -> None:
        socket.gone = True
        socket.give(voiced(0.2), command("stop"))
        await socket.closed.wait()

    _connected(script)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_messages_are_handled_in_order_under_any_asgi_server() -> None:
    async def script(socket: FakeWebSocket, service: Service) -> None:
        socket.give(voiced(0.5), *(command("ping", id=number) for number in range(100)), command("stop"))
        await socket.closed.wait()
        kinds = [message["type"] for message in socket.sent]
        assert kinds[0] == "ready"
        assert kinds[-1] == "done"
        assert [message["id"] for message in socket.sent if message["type"] == "pong"] == list(range(100))
        assert socket.close_code == 1000

    _connected(script)


def test_a_client_that_reads_nothing_is_sent_the_reason_once_it_reads() -> None:
    async def script(socket: FakeWebSocket, service: Service) -> None:
        socket.reads.clear()
        socket.give(*(command("ping", id=number) for number in range(12)))
        await socket.inbox.join()
        socket.reads.set()
        await socket.closed.wait()
        assert socket.sent[-1]["code"] == "slow_reader"
        assert socket.close_code == 1008

    _connected(script, max_unread_events=10)


def test_a_client_that_reads_nothing_is_closed_even_if_its_session_ends_at_that_moment() -> None:
    """The message over the bound and the close come from one input."""

    async def script(socket: FakeWebSocket, service: Service) -> None:
        socket.reads.clear()
        socket.give(*(command("ping", id=number) for number in range(10)))
        await socket.inbox.join()
        socket.give(command("stop"))
        await socket.inbox.join()
        socket.reads.set()
        await socket.closed.wait()
        assert socket.close_code in (1000, 1008)

    _connected(script, max_unread_events=10)


def test_a_fault_of_the_voice_detector_s_network_ends_the_session_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before, it waited for the answer for ever."""

    def broken(network: silero.SileroNetwork, queries: Any) -> Any:
        raise ArithmeticError("a fault of the network")

    async def script(socket: FakeWebSocket, service: Service) -> None:
        monkeypatch.setattr(silero.SileroNetwork, "answer", broken)
        socket.give(voiced(0.5))
        await socket.closed.wait()
        assert [(message["code"], message["fatal"]) for message in socket.sent if message["type"] == "error"] == [
            ("internal", True)
        ]
        assert socket.close_code == 1011

    _connected(script)
