"""The text of a recording, to the character, in each format of the answer."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from streaming_asr.core.options import SessionOptions
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer


@contextmanager
def _client(text: str) -> Iterator[TestClient]:
    """Of a server that reads this text in each utterance."""
    application = Application(FakeRecognizer(text), ServerOptions(session=SessionOptions(vad="webrtc")))
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


@pytest.fixture(scope="module")
def two_sentences(librivox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "two.wav"
    samples, rate = soundfile.read(next(librivox.glob("*0930.wav")), dtype="int16")
    soundfile.write(path, np.concatenate([samples, np.zeros(2 * rate, np.int16), samples]), rate)
    return path


@pytest.mark.parametrize(
    "text",
    ["Comment ça va ?", "안녕하세요. 저는", "我用 Python 写。", "สวัสดีครับ", "Wait — a & b", "100 € = 120 $", "<b>"],
)
def test_subtitles_have_the_very_text(two_sentences: Path, text: str) -> None:
    with _client(text) as client:
        for style, shown in (("srt", text), ("vtt", html.escape(text))):
            fields = {"response_format": style}
            answer = client.post("/v1/audio/transcriptions", files={"file": two_sentences.read_bytes()}, data=fields)
            blocks = answer.text.removeprefix("WEBVTT\n\n").strip().split("\n\n")
            assert [block.split("\n")[-1] for block in blocks] == [shown, shown]


@pytest.mark.parametrize(
    ("text", "twice"),
    [("안녕하세요.", "안녕하세요. 안녕하세요."), ("你好。", "你好。你好。"), ("Hello.", "Hello. Hello.")],
)
def test_utterances_are_joined_as_their_script_is_written(two_sentences: Path, text: str, twice: str) -> None:
    with _client(text) as client:
        answer = client.post("/v1/audio/transcriptions", files={"file": two_sentences.read_bytes()})
    assert answer.json()["text"] == twice
