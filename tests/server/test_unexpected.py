"""Exceptions that nobody expected: a 500 in the route's own form, an error event in a stream, and one traceback."""

from __future__ import annotations

import errno
import io
import json
import wave
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from streaming_asr.core.events import Final
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Command
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.app import Application
from streaming_asr.server.auth import origin_is_allowed
from streaming_asr.server.metrics import Metrics
from streaming_asr.server.openai_http import client_secrets, recordings
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.pages import _Files
from streaming_asr.server.service import Service
from tests.support.fake_recognizer import FakeRecognizer


@pytest.fixture
def application() -> Application:
    return Application(
        FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc"), allowed_hosts=("testserver",))
    )


@pytest.fixture
def client(application: Application) -> Iterator[TestClient]:
    with TestClient(application.asgi, raise_server_exceptions=False) as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


def _fault(*_: Any, **__: Any) -> Any:
    raise KeyError("a fault of the server")


def _routes() -> list[Route]:
    routes = Application(FakeRecognizer(), ServerOptions()).asgi.routes
    return [route for route in routes if isinstance(route, Route) and route.path != "/healthz"]


@pytest.mark.parametrize("route", _routes(), ids=lambda route: route.path)
def test_an_exception_in_a_route_is_a_500_in_openai_s_form(
    application: Application, client: TestClient, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((Service, "ready"), (Service, "status"), (Service, "models")):
        monkeypatch.setattr(owner, name, property(_fault))
    monkeypatch.setattr(Metrics, "text", _fault)
    monkeypatch.setattr(_Files, "get_response", _fault)
    monkeypatch.setattr(client_secrets, "_read", _fault)
    method = "POST" if "POST" in (route.methods or ()) else "GET"
    monkeypatch.setattr("streaming_asr.server.openai_http.recordings.Recordings._model", property(_fault))
    answer = client.request(method, route.path, json={})
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("internal", "server_error")
    assert "fault" not in answer.text
    monkeypatch.undo()
    assert 'streaming_asr_errors_total{code="internal"} 1.0' in application.service.metrics.text().decode()


@pytest.mark.parametrize("path", PROTOCOLS)
def test_an_exception_at_a_handshake_is_a_500_in_the_protocol_s_form(
    client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Service, "models", property(_fault))
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path):
        pass
    assert refused.value.status_code == 500
    body = refused.value.json()
    if "listen" in path:
        assert (body["err_code"], refused.value.headers["dg-error"]) == ("INTERNAL_SERVER_ERROR", body["err_msg"])
    else:
        assert body["error"]["code"] == "internal"
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_an_exception_in_a_session_is_an_error_event_and_a_close(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def received(translator: NativeTranslator, message: str | bytes) -> list[Command]:
        raise KeyError("a fault of the server")

    monkeypatch.setattr(NativeTranslator, "received", received)
    with client.websocket_connect("/v1/stream") as socket:
        assert socket.receive_json()["type"] == "ready"
        socket.send_bytes(bytes(3200))
        assert socket.receive_json()["code"] == "internal"
        assert socket.receive()["code"] == 1011


def _wav() -> bytes:
    recording = io.BytesIO()
    with wave.open(recording, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    return recording.getvalue()


def test_an_exception_in_a_streamed_answer_is_an_error_event(
    application: Application,
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: Any) -> AsyncIterator[Final]:
        yield Final(1, 0, "Hello.", "en", 0, 500, None, None)
        raise KeyError("a fault of the server")

    monkeypatch.setattr(recordings, "stream_file", broken)
    answer = client.post("/v1/audio/transcriptions", data={"stream": "true"}, files={"file": ("a.wav", _wav())})
    events = [
        json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: {")
    ]
    assert [event["type"] for event in events] == ["transcript.text.delta", "error"]
    assert events[1]["error"]["code"] == "internal"
    assert len([record for record in caplog.records if record.exc_info]) == 1
    whole = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", _wav())})
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "internal")


def test_a_decoder_that_can_not_be_started_is_not_the_recording_s_fault(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("subprocess.Popen", no_more)
        refused = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", _wav())})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
    assert client.post("/v1/audio/transcriptions", files={"file": ("a.wav", _wav())}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *(b"\xff\xfe", b'{"messages": "\xff"}', b"", b"[", b"null", b"7", b'{"messages": 7}'),
        *(b"[" * 5_000 + b"]" * 5_000, b'{"messages": [], "x": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001),
        *(b'{"messages": [], "model": "\\ud800"}', b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
    ],
)
def test_a_chat_that_can_not_be_read_is_a_400(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]x", "null"])
def test_an_origin_that_can_not_be_read_is_refused(client: TestClient, origin: str) -> None:
    assert not origin_is_allowed(origin, "testserver", ())
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/v1/stream", headers={"Origin": origin}),
    ):
        pass
    assert refused.value.status_code == 403
