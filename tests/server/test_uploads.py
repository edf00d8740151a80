"""Where an uploaded recording is kept while it is transcribed."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from streaming_asr.core.options import SessionOptions
from streaming_asr.engine.media.decoders import Decoders
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer


@pytest.fixture
def client() -> Iterator[TestClient]:
    application = Application(FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc")))
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


def _wav(seconds: int) -> bytes:
    recording = io.BytesIO()
    soundfile.write(recording, np.zeros(seconds * 16_000, np.int16), 16_000, format="WAV")
    return recording.getvalue()


@pytest.mark.parametrize("stream", ["false", "true"])
def test_an_upload_is_written_to_disk_once(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    unnamed: list[IO[bytes]] = []
    make_file = tempfile.TemporaryFile

    def make_counted_file(*arguments: Any, **named: Any) -> IO[bytes]:
        unnamed.append(make_file(*arguments, **named))
        return unnamed[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", make_counted_file)
    named: list[Path] = []
    sizes: list[int] = []
    decode = Decoders.open

    def decode_measured(*arguments: Any) -> Any:
        named.extend(tmp_path.iterdir())
        sizes.extend(os.fstat(file.fileno()).st_size for file in unnamed if not file.closed)
        return decode(*arguments)

    monkeypatch.setattr(Decoders, "open", decode_measured)
    recording = _wav(120)
    answer = client.post("/v1/audio/transcriptions", files={"file": recording}, data={"stream": stream})
    assert answer.status_code == 200
    assert named == []
    assert sizes == [len(recording)]
    assert all(file.closed for file in unnamed)


def test_a_small_upload_stays_in_memory(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert client.post("/v1/audio/transcriptions", files={"file": _wav(5)}).status_code == 200
