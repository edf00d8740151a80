"""Short-lived keys: how long they live, how many, what they carry; and the hour that a realtime session lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.openai import realtime as openai_realtime
from streaming_asr.protocols.openai.session import Session
from streaming_asr.server.app import Application
from streaming_asr.server.openai_http.client_secrets import ClientSecrets, TooManySecrets
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.serve import serve
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.wire import run

KEY = {"Authorization": "Bearer real"}


def test_a_secret_is_valid_for_as_long_as_was_requested() -> None:
    store = ClientSecrets()
    asked = Session(include=["logprobs"])
    value = store.issue(asked, 60, now=100)
    assert store.session_of(value, 159) == {"include": ["logprobs"]}
    assert store.session_of(value, 160) is None
    assert store.session_of("ek_other", 100) is None
    assert store.session_of(None, 100) is None


def test_the_number_of_keys_is_limited() -> None:
    store = ClientSecrets(limit=2)
    store.issue(Session(), 10, now=0)
    kept = store.issue(Session(), 100, now=0)
    with pytest.raises(TooManySecrets):
        store.issue(Session(), 10, now=9)
    store.issue(Session(), 10, now=10)
    assert store.session_of(kept, 10) == {}


def test_what_they_say_of_their_sessions_is_bounded() -> None:
    store = ClientSecrets(limit_bytes=1000)
    long = Session(include=["x" * 400])
    store.issue(long, 10, now=0)
    store.issue(long, 100, now=0)
    with pytest.raises(TooManySecrets):
        store.issue(long, 10, now=9)
    store.issue(long, 10, now=10)
    with pytest.raises(TooManySecrets):
        store.issue(long, 10, now=19)


def test_fields_that_are_no_part_of_a_session_are_not_kept(client: TestClient, application: Application) -> None:
    """Before, 63 KB of them were 1.45 MB of objects for up to two hours."""
    asked = {"session": {"type": "transcription", "x": [[]] * 20_000, "include": ["logprobs"]}}
    assert client.post("/v1/realtime/client_secrets", json=asked, headers=KEY).status_code == 200
    assert application.client_secrets._bytes < 100


def test_a_secret_expires_although_the_clock_was_set_back(
    client: TestClient, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"expires_after": {"anchor": "created_at", "seconds": 10}}
    value = client.post("/v1/realtime/client_secrets", json=asked, headers=KEY).json()["value"]
    present = time.monotonic()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert application._issued(value)
    monkeypatch.setattr(time, "monotonic", lambda: present + 11)
    assert not application._issued(value)


@pytest.fixture
def application() -> Application:
    return Application(FakeRecognizer(), ServerOptions(api_keys=("real",), session=SessionOptions(vad="webrtc")))


@pytest.fixture
def client(application: Application) -> Iterator[TestClient]:
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


def test_a_secret_opens_the_session_it_was_issued_for(client: TestClient, application: Application) -> None:
    session = {"type": "transcription", "audio": {"input": {"transcription": {"language": "de"}}}}
    asked = {"session": session, "expires_after": {"anchor": "created_at", "seconds": 30}}
    issued = client.post("/v1/realtime/client_secrets", json=asked, headers=KEY).json()
    assert issued["expires_at"] == pytest.approx(time.time() + 30, abs=5)
    assert issued["session"]["audio"]["input"]["transcription"] == {"language": "de"}
    offered = ["realtime", f"openai-insecure-api-key.{issued['value']}"]
    with client.websocket_connect("/v1/realtime", subprotocols=offered) as talking:
        assert talking.accepted_subprotocol == "realtime"
        created = json.loads(talking.receive_text())
        talking.close()
        # Else the client cancels the connection, at whatever point of its end it is.
        assert client.portal is not None
        client.portal.call(application.all_closed)
    assert created["session"]["audio"]["input"]["transcription"] == {"language": "de"}
    secret = {"Authorization": f"Bearer {issued['value']}"}
    assert client.post("/v1/realtime/client_secrets", headers=secret).status_code == 401, "a secret issues no other"


def test_a_wrong_key_is_refused_in_openai_s_form(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/v1/realtime"):
        pass
    assert refused.value.status_code == 401
    assert set(refused.value.json()["error"]) == {"type", "code", "message", "param"}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("{", 400, "JSON"),
        ('{"session":{"audio":{"input":{"format":{"type":"mp3"}}}}}', 400, "mp3"),
        ('{"session":{"audio":{"input":{"format":{"rate":96000}}}}}', 400, "8000 to 48000"),
        ('{"expires_after":{"seconds":9}}', 400, "10 to 7200"),
        ('{"session":{"x":"' + "x" * 70_000 + '"}}', 413, "65536"),
    ],
)
def test_a_bad_request_for_a_secret_is_an_error(client: TestClient, body: str, status: int, says: str) -> None:
    answer = client.post("/v1/realtime/client_secrets", content=body, headers=KEY)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]
    assert client.post("/v1/realtime/client_secrets", headers=KEY).status_code == 200


async def _created(url: str) -> tuple[dict[str, Any], ClientConnection]:
    """A connection once the server is ready for it."""
    while True:
        with contextlib.suppress(OSError):
            talking = await connect(url)
            message = json.loads(await talking.recv())
            if message["type"] == "session.created":
                return message, talking
            assert message["error"]["code"] == "not_ready"
            await talking.close()
        await asyncio.sleep(0.05)


def test_a_session_ends_when_its_hour_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_realtime, "LIFE_S", 0.5)

    async def script() -> None:
        with socket.create_server(("127.0.0.1", 0)) as bound:
            port = int(bound.getsockname()[1])
        serving = asyncio.create_task(serve(FakeRecognizer(), ServerOptions(port=port, idle_timeout_s=1)))
        try:
            created, talking = await _created(f"ws://127.0.0.1:{port}/v1/realtime")
            error = json.loads(await talking.recv())["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "session_expired")
            with pytest.raises(ConnectionClosed):
                await talking.recv()
            assert talking.close_code == 1001
            assert created["session"]["expires_at"] - created["created"] == openai_realtime.LIFE_S
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    run(script())
