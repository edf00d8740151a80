"""The native protocol as a conversation, without a socket. docs/protocol.md describes it; this holds it to that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import Word
from streaming_asr.protocols import native
from streaming_asr.protocols.base import (
    Audio,
    Close,
    Configure,
    Finalize,
    Handshake,
    Open,
    Opened,
    Send,
    Stop,
)
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.protocols.native import NativeTranslator
from tests.support.dialogue import sent_messages
from tests.support.fakes import CAPABILITIES


def _connect(*query: tuple[str, str], defaults: SessionOptions | None = None) -> NativeTranslator:
    return NativeTranslator(Handshake("/v1/stream", query), defaults or SessionOptions())


def test_the_query_gives_options() -> None:
    talk = _connect(
        ("encoding", "mulaw"), ("sample_rate", "8000"), ("keyword", "Qwen"), ("keywords", "a, b"), ("endpoint_ms", "")
    )
    (command,) = talk.connected()
    assert isinstance(command, Open)
    assert command.options == SessionOptions(
        encoding=Encoding.MULAW, sample_rate=8000, keywords=("Qwen", "a", "b"), endpoint_ms=None
    )


def test_options_with_several_values_may_be_repeated_or_have_commas() -> None:
    talk = _connect(("replace", "a,b:c"), ("replace", "d:e"), ("redact", "pci,ssn"), ("redact", "pii"))
    (command,) = talk.connected()
    assert isinstance(command, Open)
    assert command.options == SessionOptions(replace=("a,b:c", "d:e"), redact=("pci", "ssn", "pii"))
    assert talk.received('{"type":"configure","redact":"numbers","replace":["f:g"]}') == [
        Configure({"redact": ("numbers",), "replace": ("f:g",)})
    ]


def test_a_profile_in_the_query_sets_what_the_query_does_not() -> None:
    (command,) = _connect(("endpoint_ms", "700"), ("profile", "recording")).connected()
    assert isinstance(command, Open)
    assert command.options == SessionOptions(profile="recording", endpoint_ms=700, vad="thorough", partials=False)


def test_what_the_client_does_not_say_is_the_server_s() -> None:
    (command,) = _connect(("word_times", "true"), defaults=SessionOptions(endpoint_ms=800)).connected()
    assert command == Open(SessionOptions(endpoint_ms=800, word_times=True))


def test_a_key_in_the_query_is_not_an_option() -> None:
    assert _connect(("token", "secret"), ("api_key", "secret")).connected() == [Open(SessionOptions())]


def test_a_conversation() -> None:
    talk = _connect()
    talk.connected()
    ready = sent_messages(talk.opened(Opened("s1", SessionOptions(), CAPABILITIES)))[0]
    assert (ready["type"], ready["session"], ready["languages"]) == ("ready", "s1", ["en", "de"])
    assert ready["options"]["sample_rate"] == 16_000
    assert talk.received(b"\0\0") == [Audio(b"\0\0")]
    assert talk.received('{"type":"configure","endpoint_ms":null,"keywords":["x"]}') == [
        Configure({"endpoint_ms": None, "keywords": ("x",)})
    ]
    assert sent_messages(talk.configured(SessionOptions(endpoint_ms=None)))[0]["options"]["endpoint_ms"] is None
    assert talk.received('{"type":"finalize"}') == [Finalize()]
    assert sent_messages(talk.received('{"type":"ping","id":"x"}')) == [{"type": "pong", "id": "x"}]
    assert talk.received('{"type":"stop"}') == [Stop()]
    assert sent_messages(talk.received(b"\0\0"))[0]["code"] == "stopped"
    done = talk.on_events([events.Done(1000)])
    assert sent_messages(done) == [{"type": "done", "audio_ms": 1000}]
    assert done[-1] == Close(1000, "done")


def test_every_event_is_sent() -> None:
    sent = sent_messages(
        _connect().on_events(
            [
                events.SpeechStarted(1, 0, 100),
                events.Partial(1, 0, 1, "to", " be", "en", 100, 600, False),
                events.SpeechResumed(1, 0, 700),
                events.EagerTurnEnd(1, 0, 800, "to be", 0.7),
                events.TurnResumed(1, 0, 850),
                events.SpeechEnded(1, 0, 100, 900, EndReason.TURN, 0.9),
                events.Final(1, 0, "to be", "en", 100, 900, 0.9, (Word("to", 100, 300, 0.8), Word("be", 300, 900))),
                events.Finalized(0, 1000),
                events.SessionWarning("audio_clipped", "loud"),
            ]
        )
    )
    assert [event["type"] for event in sent] == [
        *("speech_started", "partial", "speech_resumed", "eager_turn_end", "turn_resumed"),
        *("speech_ended", "final", "finalized", "warning"),
    ]
    assert all("time_ms" in event for event in sent[:-1])
    assert (sent[3]["text"], sent[3]["probability"]) == ("to be", 0.7)
    assert (sent[5]["reason"], sent[5]["probability"]) == ("turn", 0.9)
    assert sent[1]["stable"] + sent[1]["tentative"] == "to be"
    assert sent[6]["words"][0] == {
        "text": "to",
        "start_ms": 100,
        "end_ms": 300,
        "probability": 0.8,
        "times_from": "recognizer",
    }


def test_who_speaks_is_sent_where_it_is_known() -> None:
    partial = events.Partial(1, 0, 1, "so", "", "en", 0, 600)
    final = events.Final(1, 0, "so it", "en", 0, 900, None, (Word("so", 0, 300, speaker=1), Word("it", 300, 900)))
    identified = events.SpeakerIdentified(1, 0, 1, 700)
    sent = sent_messages(
        _connect().on_events([partial, identified, replace(partial, speaker=1), final, replace(final, speaker=1)])
    )
    assert [message.get("speaker") for message in sent] == [None, 1, 1, None, 1]
    assert sent[1] == {"type": "speaker", "utterance": 1, "channel": 0, "time_ms": 700, "speaker": 1}
    assert [word.get("speaker") for word in sent[3]["words"]] == [1, None]


def test_only_partials_may_be_replaced() -> None:
    partial = events.Partial(3, 0, 1, "", "a", None, 0, 1, False)
    final = events.Final(3, 0, "a", None, 0, 1, None, None)
    sent = [command for command in _connect().on_events([partial, final]) if isinstance(command, Send)]
    assert [command.replaces for command in sent] == [3, None]


def test_a_fatal_failure_closes_and_another_does_not() -> None:
    talk = _connect()
    commands = talk.failed(Failure(FailureKind.BUSY, "later"))
    assert sent_messages(commands) == [{"type": "error", "code": "busy", "message": "later", "fatal": True}]
    assert commands[-1] == Close(1013, "busy")
    assert sent_messages(talk.failed(Failure(FailureKind.BAD_OPTION, "no", goes_on=True))) == [
        {"type": "error", "code": "bad_option", "message": "no", "fatal": False}
    ]


def test_a_bad_first_message_is_fatal_and_a_later_one_is_not() -> None:
    talk = _connect()
    assert talk.received('{"type":"start","sampel_rate":1}')[-1] == Close(CloseCode.POLICY, "bad_option")
    talk.received(b"\0\0")
    assert not any(isinstance(command, Close) for command in talk.received('{"type":"configure","sampel_rate":1}'))


@given(st.one_of(st.text(max_size=200), st.binary(max_size=50), st.from_regex(r'\{"type":"\w+".*\}', fullmatch=True)))
def test_no_message_breaks_it(message: str | bytes) -> None:
    for command in _connect().received(message):
        if isinstance(command, Send) and isinstance(command.message, str):
            assert json.loads(command.message)["type"] in ("error", "pong")


def test_the_documentation_names_every_message_and_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    for union in (native.Control, native.Message):
        for kind in union.__args__:
            assert f"`{kind.__struct_config__.tag}`" in text or f'"type":"{kind.__struct_config__.tag}"' in text
    for field in msgspec.structs.fields(native.Partial) + msgspec.structs.fields(native.Final):
        assert field.name in text
    for name in SessionOptions.__slots__:
        assert f"`{name}`" in text, name
