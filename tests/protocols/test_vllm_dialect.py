"""vLLM's dialect of OpenAI's realtime protocol as conversations, without a socket."""

from __future__ import annotations

import pytest

from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.protocols.base import Audio, Close, Finalize, Lifetime
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.protocols.openai.session import LOGPROBS
from tests.support.dialogue import sent_messages, types_of
from tests.support.realtime import Talk


def test_vllm_s_conversation() -> None:
    talk = Talk()
    assert talk.created["id"] == "sess_s1"
    (updated,) = sent_messages(talk.send("session.update", model="fake", language="en", prompt="Names"))
    assert updated == {
        "type": "session.updated",
        "model": "fake",
        "language": "en",
        "prompt": "Names",
        "include": [],
        "timestamp_granularities": [],
    }
    assert (talk.options.sample_rate, talk.options.language) == (16_000, "en")
    assert talk.send("input_audio_buffer.commit") == []
    assert talk.send("input_audio_buffer.append", audio="AAA=") == [Audio(b"\0\0")]
    sent = talk.speak("One.") + talk.speak("Two.", 2, logprobs=((" Two", 0.0),))
    assert talk.send("input_audio_buffer.commit", final=True) == [Finalize()]
    sent += talk.report()
    assert "".join(event["delta"] for event in sent[:-1]) == sent[-1]["text"] == "One. Two."
    assert set(types_of(sent[:-1])) == {"transcription.delta"}
    assert {event["logprobs"] for event in sent[:-1]} == {None}
    assert sent[-1]["type"] == "transcription.done"
    assert set(sent[-1]["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_vllm_s_older_clients_begin_with_a_commit() -> None:
    talk = Talk()
    talk.send("input_audio_buffer.commit")
    assert talk.options.sample_rate == 16_000
    talk.send("input_audio_buffer.commit", final=True)
    assert talk.report() == [
        {
            "type": "transcription.done",
            "text": "",
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }
    ]


@pytest.mark.parametrize("query", [("intent", "transcription"), ("model", "gpt-4o-transcribe")])
def test_a_first_commit_is_openai_s_if_the_query_names_an_intent_or_a_model(query: tuple[str, str]) -> None:
    talk = Talk(query)
    assert talk.send("input_audio_buffer.commit") == [Finalize()]
    assert types_of(talk.report())[0] == "input_audio_buffer.committed"


def test_vllm_s_deltas_have_the_log_probabilities_of_their_tokens_if_asked() -> None:
    talk = Talk()
    talk.send("session.update", model="fake", include=[LOGPROBS])
    sent = talk.report(
        events.SpeechStarted(1, 0, 100),
        events.Partial(1, 0, 1, "One", " two", "en", 100, 900, logprobs=(("One", -0.5),)),
        events.Partial(1, 0, 2, "One two", " three", "en", 100, 900, logprobs=(("One", -0.5), (" two", -0.25))),
        events.SpeechEnded(1, 0, 100, 1100, EndReason.ENDPOINT),
        events.Final(1, 0, "One two three", "en", 100, 1100, 0.9, None, (("One two", 0.0), (" three", -1.0))),
        events.SpeechStarted(2, 0, 2000),
        events.SpeechEnded(2, 0, 2000, 3000, EndReason.ENDPOINT),
        events.Final(2, 0, "Four", "en", 2000, 3000, 0.9, None, None),
    )
    assert [(event["delta"], event["logprobs"]) for event in sent] == [
        ("One", [{"token": "One", "logprob": -0.5, "bytes": [79, 110, 101]}]),
        (" two", [{"token": " two", "logprob": -0.25, "bytes": [32, 116, 119, 111]}]),
        (" three", [{"token": " three", "logprob": -1.0, "bytes": [32, 116, 104, 114, 101, 101]}]),
        (" Four", None),
    ]


def test_vllm_s_clients_get_the_server_s_own_idle_timeout() -> None:
    commands = Talk().send("session.update", model="fake")
    assert commands[0] == Lifetime(None, 0)
    idle = Talk()
    idle.send("session.update", model="fake")
    commands = idle.translator.failed(Failure(FailureKind.IDLE, "Nothing came."))
    assert sent_messages(commands)[-1]["code"] == "idle_timeout"
    assert commands[-1] == Close(CloseCode.POLICY, "idle")


def test_vllm_s_clients_must_name_the_model_again_after_another_one() -> None:
    talk = Talk()
    talk.send("session.update", model="another")
    assert talk.send("input_audio_buffer.append", audio="AAA=") == []
    for final in (False, True):
        (error,) = sent_messages(talk.send("input_audio_buffer.commit", final=final))
        assert error["code"] == "model_not_validated"
    assert types_of(sent_messages(talk.send("session.update", model="fake"))) == ["session.updated"]
    assert talk.send("input_audio_buffer.append", audio="AAA=") == [Audio(b"\0\0")]


def test_vllm_s_failed_item_is_an_error() -> None:
    talk = Talk()
    talk.send("session.update", model="fake")
    talk.report(
        events.SpeechStarted(1, 0, 100),
        events.SpeechEnded(1, 0, 100, 1100, EndReason.ENDPOINT),
        events.SessionWarning("decode_failed", "It failed.", utterance=1),
        events.Final(1, 0, "", None, 100, 1100, None, None),
    )
    talk.send("input_audio_buffer.commit", final=True)
    (error,) = talk.report()
    assert (error["type"], error["code"]) == ("error", "processing_error")


def test_vllm_s_errors_are_strings() -> None:
    talk = Talk()
    (error,) = sent_messages(talk.send("session.update", model="another"))
    assert (error["type"], error["code"]) == ("error", "model_not_found")
    assert "'fake'" in error["error"]
    assert talk.send("session.update", model="/models/Fake")
    for bad, code in (
        ("{", "invalid_json"),
        (b"\0", "invalid_event"),
        ("[]", "invalid_event"),
        ('{"type":"sing"}', "unknown_event"),
        ('{"type":"session.update","include":["words"]}', "invalid_event"),
        ('{"type":"input_audio_buffer.append","audio":"%"}', "invalid_audio"),
    ):
        (error,) = sent_messages(talk.receive(bad))
        assert (error["type"], error["code"]) == ("error", code)
        assert isinstance(error["error"], str)
    commands = talk.translator.failed(Failure(FailureKind.BUSY, "later"))
    assert sent_messages(commands)[-1] == {"type": "error", "error": "later", "code": "busy"}
    assert commands[-1] == Close(1013, "busy")
