"""What clients are sent about recordings that were repaired, fail, or are ended, and when they disconnect."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import psutil
import pytest
from starlette.testclient import TestClient

from streaming_asr.core.options import SessionOptions
from streaming_asr.engine.media.decoders import Decoders
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.live_server import LiveServer
from tests.support.media_files import CASES, REFUSED, clip, wav

URL = "/v1/audio/transcriptions"


@pytest.fixture
def client() -> Iterator[TestClient]:
    options = ServerOptions(session=SessionOptions(vad="webrtc"), max_recording_s=60.0)
    application = Application(FakeRecognizer(), options)
    with TestClient(application.asgi, "http://localhost", raise_server_exceptions=False) as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


@pytest.fixture(scope="module")
def damaged() -> bytes:
    return CASES["damaged MP3"].make()


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_what_was_repaired_is_in_every_answer(
    client: TestClient, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "streaming_asr"):
        for style in ("json", "verbose_json"):
            answer = client.post(URL, files={"file": damaged}, data={"response_format": style})
            assert [warning["code"] for warning in answer.json()["warnings"]] == ["audio_damaged"]
            assert "could not be decoded" in answer.json()["warnings"][0]["message"]
    for style in ("text", "srt", "vtt"):
        answer = client.post(URL, files={"file": damaged}, data={"response_format": style})
        assert "The recording is damaged at" in answer.headers["X-Transcription-Warning"]
    streamed = client.post(URL, files={"file": damaged}, data={"stream": "true"})
    (warning,) = [event for event in _events(streamed.text) if event["type"] == "transcript.warning"]
    assert warning["code"] == "audio_damaged"
    assert "The recording is damaged at" in caplog.text
    assert 'kind="audio_damaged"' in client.get("/metrics").text


def test_a_recording_that_is_whole_has_no_warnings(client: TestClient) -> None:
    answer = client.post(URL, files={"file": wav(clip("a"))})
    assert "warnings" not in answer.json()
    assert "X-Transcription-Warning" not in answer.headers


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_an_error_in_openai_s_form(client: TestClient, name: str, stream: str) -> None:
    make, reason = REFUSED[name]
    answer = client.post(URL, files={"file": make()}, data={"stream": stream})
    error = _events(answer.text)[-1]["error"] if stream == "true" else answer.json()["error"]
    assert re.search(reason, error["message"])
    assert error["type"] == "invalid_request_error"
    assert answer.status_code == (200 if stream == "true" else 400)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_recording_that_is_too_long_is_refused(client: TestClient, stream: str) -> None:
    answer = client.post(URL, files={"file": wav(np.zeros(61_000, np.float32), rate=1_000)}, data={"stream": stream})
    error = _events(answer.text)[-1]["error"] if stream == "true" else answer.json()["error"]
    assert error["code"] == "too_large"
    assert "longer than the 60 s that are allowed" in error["message"]
    assert answer.status_code == (200 if stream == "true" else 413)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_an_unexpected_exception_is_an_error_in_openai_s_form(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Decoders, "open", fail)
    answer = client.post(URL, files={"file": wav(clip("a"))}, data={"stream": stream})
    error = _events(answer.text)[-1]["error"] if stream == "true" else answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal")
    assert "a bug" not in answer.text


def _request(recording: bytes) -> bytes:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + recording + b"\r\n--x--\r\n"
    )
    head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _decoding(process: psutil.Process) -> list[psutil.Process]:
    """Children that work; one that waits for a recording has its socket as standard input."""
    return [
        child
        for child in process.children()
        if "streaming_asr.engine.media.child" in child.cmdline() and child.nice() > process.nice()
    ]


def _wait_until(fulfilled: Any) -> None:
    deadline = time.monotonic() + 60
    while not fulfilled():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.full
def test_a_client_that_disconnects_ends_its_child_though_no_event_comes() -> None:
    silence = wav(np.zeros(4 * 3600 * 1_000 - 1, np.float32), rate=1_000)
    with LiveServer() as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(_request(silence))
            _wait_until(lambda: _decoding(process))
        _wait_until(lambda: not _decoding(process))


@pytest.mark.full
@pytest.mark.parametrize("stream", [False, True])
def test_a_recording_that_does_not_finish_before_the_server_ends_gets_an_error(stream: bool) -> None:
    recording = io.BytesIO(wav(np.tile(np.concatenate([clip("b"), np.zeros(16_000, np.float32)]), 60)))
    with LiveServer("--drain-timeout-s", "0.5") as server:
        client = openai.OpenAI(base_url=f"{server.http_url}/v1", api_key="none", max_retries=0)
        failures: list[Exception] = []

        def transcribe() -> None:
            arguments: Any = {"file": ("a.wav", recording), "model": "any", "stream": stream}
            try:
                answer = client.audio.transcriptions.create(**arguments)
                if stream:
                    list(answer)
            except openai.APIError as error:
                failures.append(error)

        thread = threading.Thread(target=transcribe)
        thread.start()
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        _wait_until(lambda: _decoding(process))
        server.signal(signal.SIGTERM)
        thread.join(60)
        assert server.wait() == 0
    (failure,) = failures
    assert isinstance(failure, openai.APIError)
    assert "The server is shutting down" in str(failure)
