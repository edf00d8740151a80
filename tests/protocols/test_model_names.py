"""Clients may ask for the model that is served by its name, an alias, or the names that they have built in."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import BadRequest, Close, Command, Configure, Handshake, Open, Opened
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.registry import PROTOCOLS
from tests.support.dialogue import sent_messages
from tests.support.fakes import CAPABILITIES
from tests.support.live_server import LiveServer

MODELS = ModelNames("Qwen/Qwen3-ASR-1.7B", ["house-*"])


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("Qwen/Qwen3-ASR-1.7B", True),
        ("/models/qwen3-asr-1.7b/", True),
        ("House-Model", True),
        ("gpt-4o-transcribe", True),
        ("whisper-1", True),
        ("openai/whisper-large-v3", True),
        ("nova-3-general", True),
        ("flux-general-en", True),
        ("qwen3-asr-flash-realtime", True),
        ("any", True),
        ("Qwen/Qwen3-ASR-0.6B", False),
        ("no-such-model", False),
    ],
)
def test_what_is_taken(name: str, taken: bool) -> None:
    assert MODELS.takes(name) is taken
    assert ModelNames(None).takes(name)
    assert ModelNames("tiny.en", ["*"]).takes(name)


def test_the_error_for_a_missing_model_names_the_served_one() -> None:
    assert "'no-such-model'" in MODELS.unknown("no-such-model")
    assert "Qwen3-ASR-1.7B" in MODELS.unknown("no-such-model")


def _request(path: str, *query: tuple[str, str]) -> Handshake:
    return Handshake(path, query, models=ModelNames(CAPABILITIES.model))


@pytest.mark.parametrize("path", ["/v1/realtime", "/api-ws/v1/realtime"])
def test_a_connection_for_a_missing_model_gets_an_error_and_is_closed(path: str) -> None:
    translator = PROTOCOLS[path].translator(_request(path, ("model", "no-such-model")), SessionOptions())
    commands = translator.connected()
    (sent,) = sent_messages(commands)
    assert (sent["type"], sent["error"]["type"]) == ("error", "invalid_request_error")
    assert sent["error"]["code"] == "model_not_found"
    assert isinstance(commands[-1], Close)
    assert not any(isinstance(command, Open) for command in commands)


def test_an_update_to_a_missing_model_is_an_error_and_changes_nothing() -> None:
    translator = PROTOCOLS["/v1/realtime"].translator(
        _request("/v1/realtime", ("intent", "transcription")), SessionOptions()
    )
    (opening,) = [command for command in translator.connected() if isinstance(command, Open)]
    translator.opened(Opened("s1", opening.options, CAPABILITIES))

    def update(model: str) -> list[Command]:
        audio = {"input": {"transcription": {"model": model}}}
        return translator.received(
            json.dumps({"type": "session.update", "event_id": "mine", "session": {"audio": audio}})
        )

    (error,) = [sent["error"] for sent in sent_messages(update("no-such-model"))]
    assert (error["code"], error["event_id"]) == ("model_not_found", "mine")
    assert error["param"] == "session.audio.input.transcription.model"
    (configure,) = update("whisper-1")
    assert isinstance(configure, Configure)
    (updated,) = sent_messages(translator.configured(opening.options))
    assert updated["session"]["audio"]["input"]["transcription"]["model"] == "whisper-1"


@pytest.mark.parametrize("path", ["/v1/listen", "/v2/listen"])
def test_a_handshake_for_a_missing_model_is_refused(path: str) -> None:
    with pytest.raises(BadRequest, match="model: There is no model 'no-such-model' here; there is 'fake'"):
        PROTOCOLS[path].translator(_request(path, ("model", "no-such-model")), SessionOptions())


def test_over_http_it_is_not_found(server: LiveServer) -> None:
    client = openai.OpenAI(base_url=f"{server.http_url}/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "hm"}]
    calls = (
        lambda: client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="no-such-model"),
        lambda: client.chat.completions.create(model="no-such-model", messages=messages),
        lambda: client.realtime.client_secrets.create(
            session={"type": "transcription", "audio": {"input": {"transcription": {"model": "no-such-model"}}}}  # type: ignore[typeddict-item]
        ),
    )
    for call in calls:
        with pytest.raises(openai.NotFoundError, match="no-such-model") as refused:
            call()
        assert refused.value.code == "model_not_found"
