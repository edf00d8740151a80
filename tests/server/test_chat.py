"""A chat's answer is what the model itself would answer."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import soundfile
from starlette.testclient import TestClient

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Capabilities
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import CAPABILITIES


class FakeTaggingRecognizer(FakeRecognizer):
    """Its model writes the language before the text."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(CAPABILITIES, raw_answer=lambda text, language: f"<{language}> {text}")


def test_a_chat_is_answered_in_the_form_of_the_model() -> None:
    recording = io.BytesIO()
    noise = np.random.default_rng(0).integers(-20_000, 20_000, 16_000, np.int16)
    soundfile.write(recording, noise, 16_000, format="WAV")
    audio = {"data": base64.b64encode(recording.getvalue()).decode(), "format": "wav"}
    message = {"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}
    application = Application(FakeTaggingRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc")))
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        answer = client.post("/v1/chat/completions", json={"messages": [message]})
        client.portal.call(application.service.close)
    content = answer.json()["choices"][0]["message"]["content"]
    assert content.startswith("<en> w")
