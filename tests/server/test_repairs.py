"""What was repaired in a client's input is reported in every protocol: to the client where the protocol has a message
for that, and always in the log and the metrics."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession

from streaming_asr.core.options import SessionOptions
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer


def _header(rate: int, channels: int = 1) -> bytes:
    """A WAV header of 16-bit PCM."""
    layout = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    return b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + bytes(4)


def _binary(socket: WebSocketTestSession, audio: bytes) -> None:
    socket.send_bytes(audio)


def _append(socket: WebSocketTestSession, audio: bytes) -> None:
    socket.send_json({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()})


RATE = {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}}
Sender = Callable[[WebSocketTestSession, bytes], None]
PATHS: dict[str, tuple[str, list[dict[str, Any]], Sender]] = {
    "native": ("/v1/stream", [], _binary),
    "OpenAI": ("/v1/realtime", [RATE], _append),
    "vLLM": ("/v1/realtime", [{"type": "session.update", "model": "fake"}], _append),
    "DashScope": ("/api-ws/v1/realtime", [], _append),
    "Deepgram": ("/v1/listen?encoding=linear16&sample_rate=16000", [], _binary),
    "Flux": ("/v2/listen?encoding=linear16&sample_rate=16000", [], _binary),
}
"""Path, first messages, and how audio is sent."""


@pytest.fixture
def application() -> Application:
    return Application(FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc")))


@pytest.fixture
def client(application: Application) -> Iterator[TestClient]:
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


@contextmanager
def _connected(application: Application, client: TestClient, path: str) -> Iterator[WebSocketTestSession]:
    """A WebSocket, whose connection is over at the end."""
    with client.websocket_connect(path) as socket:
        yield socket
        socket.close()
        assert client.portal is not None
        client.portal.call(application.all_closed)


def _until(socket: WebSocketTestSession, done: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """What the server sends, up to this message or the close."""
    events: list[dict[str, Any]] = []
    while (message := socket.receive())["type"] == "websocket.send":
        events.append(json.loads(message["text"]))
        if done(events[-1]):
            return events
    return [*events, message]


def _repairs(application: Application, kind: str) -> float | None:
    return application.service.metrics.registry.get_sample_value("streaming_asr_repairs_total", {"kind": kind})


@pytest.mark.parametrize("name", PATHS)
def test_a_wav_header_is_skipped_and_reported_on_every_path(
    application: Application, client: TestClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, first, send = PATHS[name]
    with _connected(application, client, path) as socket:
        for message in first:
            socket.send_json(message)
        for _ in range(3):
            send(socket, _header(16_000) + bytes(3200))
        if name in ("native", "Flux"):
            codes = [event.get("code", "") for event in _until(socket, lambda event: "code" in event)]
            assert codes[-1].lower() == "wav_header"
        else:
            # An answer to anything shows that the audio before it was handled.
            socket.send_text("not JSON")
            last = _until(socket, lambda event: event["type"] in ("error", "Error"))[-1]
            assert "JSON" in json.dumps(last)
    assert _repairs(application, "wav_header") == 1
    (line,) = [record.getMessage() for record in caplog.records if "wav_header" in record.getMessage()]
    assert line.startswith("Session ")
    assert "-1 on /" in line


@pytest.mark.parametrize("name", PATHS)
def test_a_wav_header_of_another_format_is_an_error_on_every_path(
    application: Application, client: TestClient, name: str
) -> None:
    path, first, send = PATHS[name]
    with _connected(application, client, path) as socket:
        for message in first:
            socket.send_json(message)
        send(socket, bytes(3200))
        send(socket, _header(48_000, channels=2) + bytes(3200))
        *_, error, close = _until(socket, lambda event: False)
    assert "16-bit PCM, 48000 Hz, 2 channels, and the session is of s16le, 16000 Hz" in json.dumps(error)
    assert "bad_audio" in json.dumps(error).lower()
    assert (close["code"], close["reason"]) == (1008, "bad_audio")


@pytest.mark.parametrize("name", PATHS)
def test_a_control_in_a_binary_frame_is_carried_out_and_reported(
    application: Application, client: TestClient, name: str
) -> None:
    path, first, send = PATHS[name]
    control = {"native": '{"type": "ping"}'}.get(name, '{"type": "KeepAlive"}')
    if send is _append:
        control = json.dumps({"type": "input_audio_buffer.append", "audio": ""})
    with _connected(application, client, path) as socket:
        for message in first:
            socket.send_json(message)
        for _ in range(3):
            socket.send_bytes(control.encode())
        socket.send_text("not JSON")
        events = _until(socket, lambda event: "JSON" in json.dumps(event))
    codes = [str(event.get("code", "")).lower() for event in events]
    assert ("binary_control" in codes) is (name in ("native", "Flux"))
    assert len([event for event in events if event["type"].lower() == "error"]) == (name != "Flux")
    assert [event["type"] for event in events].count("pong") == (3 if name == "native" else 0)
    assert _repairs(application, "binary_control") == 1


def test_each_kind_of_flaw_is_counted(application: Application, client: TestClient) -> None:
    with _connected(application, client, "/v1/stream?encoding=f32le") as socket:
        socket.send_bytes(struct.pack("<4f", float("nan"), float("inf"), 3.0, -2.0) + b"\0")
        socket.send_json({"type": "stop"})
        codes = [event["code"] for event in _until(socket, lambda event: False) if event["type"] == "warning"]
    assert codes == ["audio_not_finite", "audio_clipped", "audio_incomplete"]
    assert [_repairs(application, code) for code in codes] == [1, 1, 1]
