"""What the server does with a uvicorn whose private members are not as `DirectWebSocket` needs them."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect

from streaming_asr.server import serve as serving
from streaming_asr.server.live import connection
from streaming_asr.server.live.websocket import why_not_direct
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.wire import Conversation, run, speech


def _checked(**arguments: Any) -> str | None:
    async def check() -> str | None:
        return why_not_direct(**arguments)

    return asyncio.run(check())


def test_the_installed_uvicorn_fits() -> None:
    assert _checked() is None


@pytest.mark.parametrize(
    ("version", "fits"),
    [("0.51.9", False), ("0.52.0", False), ("0.52.1", True), ("0.54.9", True), ("0.55.0", False), ("1.0", False)],
)
def test_only_tested_releases_fit(version: str, fits: bool) -> None:
    assert (_checked(version=version) is None) is fits


class WithoutAttribute(WebSocketsSansIOProtocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        del self.read_paused


class WithOtherAttribute(WebSocketsSansIOProtocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.frames: Any = b""


class WithOtherParameters(WebSocketsSansIOProtocol):
    def send_receive_event_to_app(self, event: object) -> None:  # type: ignore[override]
        """As another release may have it."""


class WithOtherConstructor(WebSocketsSansIOProtocol):
    def __init__(self, config: Any) -> None:
        """As another release may have it."""


@pytest.mark.parametrize(
    ("protocol", "missing"),
    [
        (WithoutAttribute, "read_paused"),
        (WithOtherAttribute, "frames of type list"),
        (WithOtherParameters, "send_receive_event_to_app()"),
        (WithOtherConstructor, "app_state"),
        (asyncio.Protocol, "handle_close(event)"),
    ],
)
def test_a_missing_member_is_named(protocol: type[asyncio.Protocol], missing: str) -> None:
    reason = _checked(protocol=protocol, version="0.54.0")
    assert reason is not None
    assert missing in reason


async def _final_over_the_wire(clip: Path) -> str:
    """The text of a session with a server in this process."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = int(bound.getsockname()[1])
    server = asyncio.create_task(serving.serve(FakeRecognizer(), ServerOptions(port=port)))
    try:
        while True:
            try:
                websocket = await connect(f"ws://127.0.0.1:{port}/v1/stream", max_size=None)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            async with websocket:
                talking = Conversation(websocket)
                await talking.receive_any()
                if talking.events[0]["type"] == "error":  # the recognizer is still loading
                    await asyncio.sleep(0.05)
                    continue
                await talking.send_audio(speech(clip), 1600)
                await talking.send("stop")
                assert await talking.receive_all() == 1000
                return talking.text
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


def test_over_plain_asgi_a_session_gets_the_same_transcript(
    librivox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clip = sorted(librivox.glob("*.wav"))[0]
    sockets: list[object] = []
    direct_socket = connection.direct_socket

    def find_socket(websocket: Any) -> Any:
        sockets.append(direct_socket(websocket))
        return sockets[-1]

    monkeypatch.setattr(connection, "direct_socket", find_socket)
    direct = run(_final_over_the_wire(clip))
    assert None not in sockets
    assert not any("plain ASGI" in line for line in caplog.messages)

    sockets.clear()
    monkeypatch.setattr(serving, "why_not_direct", lambda: "it was tested with another")
    plain = run(_final_over_the_wire(clip))
    assert set(sockets) == {None}
    assert plain == direct != ""
    said = [line for line in caplog.messages if "plain ASGI" in line]
    assert said == ["Messages come over plain ASGI, which costs more: it was tested with another"]
