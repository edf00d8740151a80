"""Inputs as clients write them mean the same on every path: WebSocket protocols, HTTP, and the command lines."""

from __future__ import annotations

import argparse
import base64
import io
import json
import wave
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from clients.options import add_output_options, add_session_options, session_options
from streaming_asr import cli
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import DecodeJob, Hypothesis
from streaming_asr.protocols.base import Audio, BadRequest, Close, Command, Configure, Handshake, Open, Opened, Send
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.native import parse_options
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.app import Application
from streaming_asr.server.openai_http.long_strings import KEPT_BYTES
from streaming_asr.server.options import ServerOptions
from tests.protocols.test_base64_audio import FORMS, GARBAGE
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import CAPABILITIES

Refused = (BadRequest, OptionError)
DEFAULTS = SessionOptions(language="de", sample_rate=8_000)
"""Unlike what is asked for, so that what is ignored shows."""


def _options(path: str, *messages: Mapping[str, Any], query: Mapping[str, str] | None = None) -> SessionOptions:
    """The options of a session after these messages.

    Raises:
        Refused: an option is refused, by the handshake or by a message.
    """
    request = Handshake(path, query=tuple((query or {}).items()), time=1.0, models=ModelNames(CAPABILITIES.model))
    translator = PROTOCOLS[path].translator(request, DEFAULTS)
    options = _applied(DEFAULTS, translator.connected())
    translator.opened(Opened("s1", options, CAPABILITIES))
    for message in messages:
        options = _applied(options, translator.received(json.dumps(message)))
    return options


def _applied(options: SessionOptions, commands: list[Command]) -> SessionOptions:
    for command in commands:
        if isinstance(command, Open):
            options = command.options
        elif isinstance(command, Configure):
            options = options.changed(**command.changes)
        elif isinstance(command, Send) and json.loads(command.message)["type"] in (
            "error",
            "Error",
            "ConfigureFailure",
        ):
            raise OptionError("option", command.message if isinstance(command.message, str) else "")
        elif isinstance(command, Close):
            raise AssertionError("closed without an error")
    return options


def _openai(**audio_input: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio_input}}}


def _flags(add: Callable[[argparse.ArgumentParser], Any], *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add(parser)
    return parser.parse_args(given)


def _client_flags(*given: str) -> SessionOptions:
    def add(parser: argparse.ArgumentParser) -> None:
        add_session_options(parser)
        add_output_options(parser, "")

    return DEFAULTS.changed(**parse_options(session_options(_flags(add, *given))))


LANGUAGE: dict[str, Callable[[str], SessionOptions]] = {
    "native query": lambda tag: _options("/v1/stream", query={"language": tag}),
    "native start": lambda tag: _options("/v1/stream", {"type": "start", "language": tag}),
    "native configure": lambda tag: _options("/v1/stream", {"type": "configure", "language": tag}),
    "OpenAI": lambda tag: _options("/v1/realtime", _openai(transcription={"language": tag})),
    "OpenAI, languages": lambda tag: _options("/v1/realtime", _openai(transcription={"languages": [tag]})),
    "OpenAI's beta": lambda tag: _options(
        "/v1/realtime",
        {"type": "transcription_session.update", "session": {"input_audio_transcription": {"language": tag}}},
    ),
    "vLLM": lambda tag: _options("/v1/realtime", {"type": "session.update", "model": "fake", "language": tag}),
    "DashScope": lambda tag: _options(
        "/api-ws/v1/realtime",
        {"type": "session.update", "session": {"input_audio_transcription": {"language": tag}}},
    ),
    "Deepgram": lambda tag: _options("/v1/listen", query={"language": tag}),
    "Flux": lambda tag: _options("/v2/listen", query={"language_hint": tag}),
    "Flux Configure": lambda tag: _options("/v2/listen", {"type": "Configure", "language_hints": [tag]}),
    "clients": lambda tag: _client_flags("--language", tag),
}
TAGS = {
    "en-US": "en",
    "EN": "en",
    "en_GB": "en",
    "zh-Hans": "zh",
    "eng": "en",
    "ger": "de",
    "auto": None,
    "multi": None,
}


@pytest.mark.parametrize("path", LANGUAGE)
@pytest.mark.parametrize(("tag", "language"), TAGS.items())
def test_a_language_tag_means_the_same_on_every_path(path: str, tag: str, language: str | None) -> None:
    assert LANGUAGE[path](tag).language == language


@pytest.mark.parametrize("path", LANGUAGE)
def test_what_is_not_a_language_is_refused_on_every_path(path: str) -> None:
    with pytest.raises(Refused, match="ISO 639"):
        LANGUAGE[path]("klingon")


RATE: dict[str, Callable[[Any], SessionOptions]] = {
    "native query": lambda rate: _options("/v1/stream", query={"sample_rate": str(rate)}),
    "native start": lambda rate: _options("/v1/stream", {"type": "start", "sample_rate": rate}),
    "native configure": lambda rate: _options("/v1/stream", {"type": "configure", "sample_rate": rate}),
    "OpenAI": lambda rate: _options("/v1/realtime", _openai(format={"type": "audio/pcm", "rate": rate})),
    "DashScope": lambda rate: _options(
        "/api-ws/v1/realtime", {"type": "session.update", "session": {"sample_rate": rate}}
    ),
    "Deepgram": lambda rate: _options("/v1/listen", query={"sample_rate": str(rate)}),
    "Flux": lambda rate: _options("/v2/listen", query={"sample_rate": str(rate)}),
}


@pytest.mark.parametrize("path", RATE)
@pytest.mark.parametrize("rate", [44_100, 44_100.0, "44100", "44100.0"])
def test_a_rate_may_be_written_as_a_float_or_as_text_on_every_path(path: str, rate: float | str) -> None:
    assert RATE[path](rate).sample_rate == 44_100


@pytest.mark.parametrize("path", RATE)
@pytest.mark.parametrize("rate", [44_100.5, "fast", "nan", True])
def test_what_is_not_a_whole_number_is_refused_on_every_path(path: str, rate: Any) -> None:
    with pytest.raises(Refused):
        RATE[path](rate)


def test_a_number_on_the_command_line_may_be_written_as_a_float() -> None:
    assert _client_flags("--endpoint-ms", "900.0").endpoint_ms == 900
    assert _client_flags("--option", "pause_ms=300.0").pause_ms == 300
    with pytest.raises(argparse.ArgumentError):
        _client_flags("--endpoint-ms", "900.5")


APPEND = {
    "OpenAI": ("/v1/realtime", {"type": "input_audio_buffer.clear"}),
    "vLLM": ("/v1/realtime", {"type": "session.update", "model": "fake"}),
    "DashScope": ("/api-ws/v1/realtime", {"type": "input_audio_buffer.clear"}),
}
"""Path, and the first message, which chooses the dialect."""


def _appended(path: str, first: Mapping[str, Any], text: str) -> list[Command]:
    translator = PROTOCOLS[path].translator(Handshake(path, models=ModelNames("fake")), SessionOptions())
    translator.connected()
    translator.opened(Opened("s1", SessionOptions(), CAPABILITIES))
    translator.received(json.dumps(first))
    return translator.received(json.dumps({"type": "input_audio_buffer.append", "audio": text}))


@pytest.mark.parametrize("dialect", APPEND)
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_base64_is_decoded_in_every_form_by_every_dialect(dialect: str, text: str) -> None:
    (audio,) = _appended(*APPEND[dialect], text)
    assert isinstance(audio, Audio)
    assert audio.data == base64.b64decode(FORMS["plain"])


@pytest.mark.parametrize("dialect", APPEND)
@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_audio_that_is_not_base64_is_an_error_of_every_dialect(dialect: str, text: str) -> None:
    (sent,) = _appended(*APPEND[dialect], text)
    assert isinstance(sent, Send)
    if "surrogate" not in text:
        assert '"invalid_audio"' in str(sent.message) or '"invalid_json"' in str(sent.message)


class LanguageNoting(FakeRecognizer):
    """Keeps the language that each job forces."""

    def __init__(self) -> None:
        super().__init__()
        self.languages: list[str | None] = []

    async def decode(self, job: DecodeJob) -> Hypothesis:
        self.languages.append(job.language)
        return await super().decode(job)


RECOGNIZER = LanguageNoting()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    application = Application(RECOGNIZER, ServerOptions(session=SessionOptions(vad="webrtc", language="de")))
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


def _wav() -> bytes:
    noise = np.random.default_rng(0).integers(-20_000, 20_000, 16_000, np.int16)
    recording = io.BytesIO()
    with wave.open(recording, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(noise.tobytes())
    return recording.getvalue()


def _upload(client: TestClient, language: str) -> tuple[int, str]:
    form = {"language": language}
    answer = client.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", _wav())})
    return answer.status_code, answer.text


def _chat(client: TestClient, language: str = "en", **part: Any) -> tuple[int, str]:
    part = part or {"input_audio": {"data": base64.b64encode(_wav()).decode()}}
    message = {"role": "user", "content": [{"type": next(iter(part)), **part}]}
    answer = client.post("/v1/chat/completions", json={"messages": [message], "language": language})
    return answer.status_code, answer.text


@pytest.mark.parametrize("send", [_upload, _chat])
def test_a_language_tag_means_the_same_over_http(client: TestClient, send: Any) -> None:
    for tag, language in TAGS.items():
        if language != "zh":
            RECOGNIZER.languages.clear()
            assert send(client, tag)[0] == 200, tag
            assert RECOGNIZER.languages
            assert set(RECOGNIZER.languages) == {language}, tag
    for tag, says in (("zh-Hans", "it knows en, de"), ("klingon", "ISO 639")):
        status, body = send(client, tag)
        assert status == 400
        assert says in body


def _forms_of(wav: bytes) -> dict[str, str]:
    plain = base64.b64encode(wav).decode()
    return {
        "line breaks": base64.encodebytes(wav).decode(),
        "URL-safe": base64.urlsafe_b64encode(wav).decode(),
        "data URL of Qwen's cloud": "data:;base64," + plain,
        "data URL with line breaks": "data:audio/wav;base64," + base64.encodebytes(wav).decode(),
    }


@pytest.mark.parametrize("form", _forms_of(b""))
def test_base64_is_decoded_in_every_form_in_chats(client: TestClient, form: str) -> None:
    text = _forms_of(_wav())[form]
    assert _chat(client, input_audio={"data": text})[0] == 200
    if text.startswith("data:"):
        assert _chat(client, audio_url={"url": text})[0] == 200


@pytest.mark.parametrize("text", ["\u00c4\u00d6", "????", "AAAAA", "data:audio/wav,x"])
def test_audio_in_a_chat_that_is_not_base64_is_a_400(client: TestClient, text: str) -> None:
    status, body = _chat(client, input_audio={"data": text})
    assert status == 400
    assert json.loads(body)["error"]["code"] == "invalid_audio"
    assert "base64" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(("url", "says"), [("data:audio/wav;base64,???", "base64"), ("data:nothing", "data:TYPE")])
def test_a_data_url_in_a_chat_that_can_not_be_decoded_is_a_400(client: TestClient, url: str, says: str) -> None:
    status, body = _chat(client, audio_url={"url": url})
    assert status == 400
    assert json.loads(body)["error"]["code"] == "invalid_audio"
    assert says in json.loads(body)["error"]["message"]


def test_audio_in_a_chat_may_be_longer_than_is_parsed_at_once(client: TestClient) -> None:
    wav = _wav() + bytes(200_000)
    assert len(wav) > 4 * KEPT_BYTES
    plain = base64.b64encode(wav).decode()
    assert _chat(client, input_audio={"data": plain})[0] == 200
    assert _chat(client, audio_url={"url": f" data:audio/wav;base64,{plain}\n"})[0] == 200


@pytest.mark.parametrize(
    ("command", "module"), [("serve", "streaming_asr.server.serve"), ("transcribe", "streaming_asr.transcribe")]
)
@pytest.mark.parametrize(("tag", "language"), TAGS.items())
def test_a_language_tag_means_the_same_in_both_commands(
    command: str, module: str, tag: str, language: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SessionOptions] = []

    async def fake(recognizer: object, *given: Any, **more: Any) -> int:
        seen.append(given[0].session if command == "serve" else given[1])
        return 0

    monkeypatch.setattr(f"{module}.{'serve' if command == 'serve' else 'transcribe_files'}", fake)
    monkeypatch.setattr(cli, "_recognizer", lambda options: FakeRecognizer())
    files = [] if command == "serve" else ["a.wav"]
    assert cli.main([command, *files, "--language", tag, "--endpoint-ms", "900.0"]) == 0
    assert (seen[0].language, seen[0].endpoint_ms) == (language, 900)
