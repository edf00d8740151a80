"""Deepgram's live protocol as a conversation, without a socket."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from streaming_asr.annotators import figures
from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.core.options import ChannelMode, Encoding, SessionOptions
from streaming_asr.core.recognizer import Word
from streaming_asr.protocols.base import (
    AtPosition,
    Audio,
    BadRequest,
    Close,
    Command,
    Finalize,
    Handshake,
    Send,
    Stop,
)
from streaming_asr.protocols.controls import BINARY_CONTROL
from streaming_asr.protocols.deepgram.listen import LEAST_ENDPOINT_MS, DeepgramTranslator
from streaming_asr.protocols.deepgram.query import refusal_answer
from streaming_asr.protocols.failures import Failure, FailureKind
from tests.support.dialogue import Dialogue, sent_messages
from tests.support.fakes import CAPABILITIES


class Talk(Dialogue):
    def __init__(self, *query: tuple[str, str], defaults: SessionOptions | None = None) -> None:
        super().__init__(self.make(Handshake("/v1/listen", query, time=1000.0), defaults or SessionOptions()))

    def make(self, handshake: Handshake, defaults: SessionOptions) -> Any:
        return DeepgramTranslator(handshake, defaults)


def started(utterance: int, at_ms: int, channel: int = 0) -> events.Event:
    return events.SpeechStarted(utterance, channel, at_ms)


def partial(utterance: int, text: str, at_ms: int, *, speculative: bool = False, channel: int = 0) -> events.Event:
    return events.Partial(utterance, channel, 1, "", f" {text}", "en", 100, at_ms, speculative)


def ended(utterance: int, at_ms: int, reason: EndReason = EndReason.ENDPOINT, channel: int = 0) -> events.Event:
    return events.SpeechEnded(utterance, channel, 100, at_ms, reason)


def final(utterance: int, text: str, at_ms: int, channel: int = 0, words: Sequence[Word] | None = None) -> events.Event:
    known = None if words is None else tuple(words)
    return events.Final(utterance, channel, text, "en" if text else None, 100, at_ms, 0.9 if text else None, known)


def _text(results: dict[str, Any]) -> str:
    text: str = results["channel"]["alternatives"][0]["transcript"]
    return text


def _flags(results: dict[str, Any]) -> tuple[bool, bool, bool]:
    return results["is_final"], results["speech_final"], results["from_finalize"]


def test_what_the_query_asks_for() -> None:
    talk = Talk(
        ("encoding", "mulaw"),
        ("sample_rate", "8000"),
        ("channels", "2"),
        ("multichannel", "true"),
        ("language", "en-US"),
        ("endpointing", "800"),
        ("keyterm", "Norland"),
        ("keyterm", '["Dashwood", "Elinor"]'),
        ("keywords", "Sussex:2.5"),
        ("interim_results", "true"),
        ("no_such_parameter", "whatever"),
        ("model", "no such model"),
    )
    options = talk.options
    assert (options.encoding, options.sample_rate) == (Encoding.MULAW, 8000)
    assert (options.channels, options.channel_mode) == (2, ChannelMode.SPLIT)
    assert (options.language, options.endpoint_ms) == ("en", 800)
    assert options.keywords == ("Norland", "Dashwood", "Elinor", "Sussex")
    assert (options.partials, options.word_times) == (True, True)


def test_what_it_does_not_say_is_the_server_s() -> None:
    options = Talk(defaults=SessionOptions(endpoint_ms=700, keywords=("a",), language="de")).options
    assert (options.endpoint_ms, options.keywords, options.language) == (700, ("a",), "de")
    assert (options.sample_rate, options.channels, options.partials) == (16_000, 1, False)


@pytest.mark.parametrize(
    ("asked", "endpoint_ms"),
    [
        ("10", LEAST_ENDPOINT_MS),
        ("25", LEAST_ENDPOINT_MS),
        ("500000", 10_000),
        ("false", 500),
        ("0", 500),
        ("true", 500),
    ],
)
def test_endpointing_is_clamped(asked: str, endpoint_ms: int) -> None:
    assert Talk(("endpointing", asked)).options.endpoint_ms == endpoint_ms


@pytest.mark.parametrize(
    ("asked", "endpointing", "endpoint_ms"),
    [(None, "mine", 500), ("true", "mine", 500), ("turn", "mine", 500), ("800", "silence", 800)],
)
def test_a_pause_that_the_client_names_ends_speech_by_silence_alone(
    asked: str | None, endpointing: str, endpoint_ms: int
) -> None:
    query = [] if asked is None else [("endpointing", asked)]
    options = Talk(*query, defaults=SessionOptions(endpointing="mine")).options
    assert (options.endpointing, options.endpoint_ms) == (endpointing, endpoint_ms)


@pytest.mark.parametrize("reason", [EndReason.ENDPOINT, EndReason.TURN, EndReason.TIMEOUT])
def test_speech_is_over_whether_silence_or_the_turn_detector_ended_it(reason: EndReason) -> None:
    (sent,) = Talk().report(started(1, 100), ended(1, 900, reason), final(1, "so", 900))
    assert _flags(sent) == (True, True, False)


@pytest.mark.parametrize(("language", "code"), [("multi", None), ("zh-CN", "zh"), ("EN", "en"), ("pt_BR", "pt")])
def test_languages_are_codes(language: str, code: str | None) -> None:
    assert Talk(("language", language), defaults=SessionOptions(language="de")).options.language == code


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ((("numerals", "true"),), {"itn": True}),
        ((("smart_format", "true"),), {"itn": True}),
        ((("smart_format", "false"),), {"itn": False}),
        ((("replace", "monica:Monika"), ("replace", "a%3Ab:c d")), {"replace": ("monica:Monika", "a:b:c d")}),
        ((("profanity_filter", "true"),), {"profanity_filter": True}),
        ((("redact", "pci"), ("redact", "true")), {"redact": ("pci", "numbers")}),
        ((("redact", '["pii","ssn"]'),), {"redact": ("pii", "ssn")}),
        ((("redact", "false"),), {"redact": ()}),
        ((), {"redact": ("ssn",)}),
    ],
)
def test_how_texts_are_written(
    query: tuple[tuple[str, str], ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "LIBRARY", "json")
    asked = Talk(*query, defaults=SessionOptions(redact=("ssn",))).options
    assert {name: getattr(asked, name) for name in options} == options


def test_smart_format_asks_for_no_more_than_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LIBRARY", "no_such_library")
    assert not Talk(("smart_format", "true")).options.itn
    assert Talk(("numerals", "true")).options.itn


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("encoding", "opus", "linear16, linear32, mulaw, alaw"),
        ("sample_rate", "7", "8000 to 48000"),
        ("sample_rate", "fast", "not a whole number"),
        ("sample_rate", "16000.5", "not a whole number"),
        ("sample_rate", "nan", "not a whole number"),
        ("channels", "3", "1 to 2"),
        ("interim_results", "perhaps", "neither true nor false"),
        ("endpointing", "soon", "not a whole number"),
        ("language", "klingon", "ISO 639"),
        ("redact", "name", "'name' can't be redacted here; these can: numbers"),
        ("replace", "this", "has no colon; write from:to"),
        ("keyterm", "x" * 101, "longer than 100"),
    ],
)
def test_a_bad_parameter_refuses_the_handshake(name: str, value: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        Talk((name, value))


@pytest.mark.parametrize(
    ("kind", "code"),
    [(FailureKind.UNAUTHORIZED, "INVALID_AUTH"), (FailureKind.BAD_OPTION, "INVALID_QUERY_PARAMETER")],
)
def test_a_refused_handshake_has_deepgram_s_form(kind: FailureKind, code: str) -> None:
    answer = refusal_answer(Failure(kind, "That’s wrong:\r\n1"))
    assert (answer.body["err_code"], answer.body["err_msg"]) == (code, "That’s wrong:\r\n1")
    assert answer.headers["dg-error"] == "That?s wrong:??1"
    assert uuid.UUID(answer.body["request_id"])


def test_interims_then_a_final() -> None:
    talk = Talk(("interim_results", "true"), ("vad_events", "true"))
    sent = talk.report(started(1, 100), partial(1, "to be", 900), ended(1, 1100), final(1, "To be, or not.", 1100))
    assert [message["type"] for message in sent] == ["SpeechStarted", "Results", "Results"]
    assert sent[0] == {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.1}
    interim, last = sent[1:]
    assert (_text(interim), _flags(interim)) == ("to be", (False, False, False))
    assert (_text(last), _flags(last)) == ("To be, or not.", (True, True, False))
    assert (last["start"], last["duration"]) == (0.1, 1.0)
    assert uuid.UUID(last["metadata"]["request_id"])
    assert last["metadata"]["model_info"]["name"] == CAPABILITIES.model
    alternative = last["channel"]["alternatives"][0]
    assert (alternative["confidence"], alternative["languages"]) == (0.9, ["en"])
    assert alternative["words"][1] == {
        "word": "be",
        "start": 0.281,
        "end": 0.554,
        "confidence": 0.9,
        "punctuated_word": "be,",
    }


def test_messages_that_were_not_requested_are_not_sent() -> None:
    talk = Talk()
    assert talk.report(started(1, 100), partial(1, "to be", 900)) == []
    assert len(talk.report(ended(1, 1100), final(1, "To be.", 1100))) == 1


def test_the_recognizer_s_words_keep_their_times_within_the_speech() -> None:
    words = [Word("To", 0, 400, 0.5), Word("be.", 400, 1300, 0.7)]
    (sent,) = Talk().report(started(1, 100), ended(1, 1100), final(1, "To be.", 1100, words=words))
    received = [
        (word["word"], word["start"], word["end"], word["confidence"])
        for word in sent["channel"]["alternatives"][0]["words"]
    ]
    assert received == [("to", 0.1, 0.4, 0.5), ("be", 0.4, 1.1, 0.7)]


@pytest.mark.parametrize("query", [("language", "multi"), ("detect_language", "true")])
def test_words_have_their_language_if_the_client_has_it_detected(query: tuple[str, str]) -> None:
    for asked, language in (((query,), "en"), ((), None)):
        talk = Talk(*asked)
        (results,) = talk.report(started(1, 100), ended(1, 1300), final(1, "To be.", 1300))
        alternative = results["channel"]["alternatives"][0]
        assert alternative["languages"] == ["en"]
        assert [word.get("language") for word in alternative["words"]] == [language, language]


@pytest.mark.parametrize(
    ("query", "asked"),
    [(("diarize", "true"), True), (("diarize_model", "latest"), True), (("diarize", "false"), False), (None, False)],
)
def test_diarize_asks_who_speaks(query: tuple[str, str] | None, asked: bool) -> None:
    assert Talk(*([query] if query else [])).options.speakers is asked


def test_words_have_their_speaker_where_it_is_known() -> None:
    talk = Talk(("diarize", "true"), ("interim_results", "true"))
    interim = dataclasses.replace(partial(1, "so it", 400), speaker=1)
    labelled = final(1, "so it is", 900, words=[Word("so", 100, 300, speaker=0), Word("it", 300, 500)])
    labelled = dataclasses.replace(labelled, speaker=2)
    sent = talk.report(started(1, 100), interim, ended(1, 900), labelled, started(2, 1000), final(2, "I", 1200))
    words = [results["channel"]["alternatives"][0]["words"] for results in sent]
    assert [[word.get("speaker") for word in each] for each in words] == [[1, 1], [0, 2], [None]]


def test_punctuation_may_be_left_out() -> None:
    (sent,) = Talk(("punctuate", "false")).report(started(1, 100), ended(1, 1100), final(1, "Don't—3.5, “Yes”!", 1100))
    assert _text(sent) == "don't—3.5 yes"
    assert "punctuated_word" not in sent["channel"]["alternatives"][0]["words"][0]


def test_speech_cut_for_its_length_is_not_over() -> None:
    talk = Talk()
    cut = talk.report(started(1, 100), ended(1, 30_000, EndReason.LENGTH), started(2, 30_000))
    cut += talk.report(final(1, "and so", 30_000), ended(2, 31_000), final(2, "on", 31_000))
    assert [(_text(results), *_flags(results)) for results in cut] == [
        ("and so", True, False, False),
        ("on", True, True, False),
    ]


def test_without_endpointing_a_pause_ends_no_speech() -> None:
    talk = Talk(("endpointing", "false"))
    assert _flags(talk.report(started(1, 100), ended(1, 900), final(1, "so", 900))[0]) == (True, False, False)
    talk.send("Finalize")
    sent = talk.report(started(2, 2000), ended(2, 2900, EndReason.FINALIZE), final(2, "so", 2900))
    assert _flags(sent[0]) == (True, True, True)


def test_the_next_utterance_waits_for_the_final_of_the_one_before() -> None:
    talk = Talk(("interim_results", "true"), ("vad_events", "true"))
    talk.report(started(1, 100), ended(1, 900))
    assert talk.report(started(2, 1500), partial(2, "or", 1800), partial(2, "or not", 2000)) == []
    sent = talk.report(final(1, "To be", 900))
    assert [message["type"] for message in sent] == ["Results", "SpeechStarted", "Results"]
    assert [_text(message) for message in sent if message["type"] == "Results"] == ["To be", "or not"]


def test_every_finalize_gets_an_answer() -> None:
    talk = Talk()
    assert talk.send("Finalize") == [Finalize()]
    (empty,) = talk.report(events.Finalized(0, 0))
    assert (_text(empty), _flags(empty)) == ("", (True, True, True))
    talk.report(started(1, 100))
    talk.send("Finalize")
    sent = talk.report(ended(1, 900, EndReason.FINALIZE), final(1, "so", 900), events.Finalized(0, 900))
    assert [(_text(results), *_flags(results)) for results in sent] == [("so", True, True, True)]
    # A pause ended the speech before the client did: its text comes as ever, then the answer.
    talk.report(started(2, 1000), ended(2, 1900))
    talk.send("Finalize")
    sent = talk.report(final(2, "on", 1900), events.Finalized(0, 2000))
    assert [(_text(results), *_flags(results)) for results in sent] == [
        ("on", True, True, False),
        ("", True, True, True),
    ]


def test_each_channel_has_its_own_messages() -> None:
    talk = Talk(("channels", "2"), ("multichannel", "true"), ("vad_events", "true"))
    sent = talk.report(started(1, 100, 0), started(2, 200, 1), ended(2, 900, channel=1), final(2, "you", 900, 1))
    assert [message.get("channel_index", message["channel"]) for message in sent] == [[0, 2], [1, 2], [1, 2]]


def test_utterance_end_follows_a_long_enough_silence() -> None:
    talk = Talk(("utterance_end_ms", "1000"))
    result, due = talk.translator.on_events([started(1, 100), ended(1, 900), final(1, "so", 900)])
    assert isinstance(result, Send)
    assert isinstance(due, AtPosition)
    assert due.audio_ms == 1900
    assert sent_messages(due.then(1920)) == [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 0.9}]
    assert not due.then(1940), "it is sent once"
    # Speech goes on before the silence is long enough.
    *_, due = talk.translator.on_events([started(2, 2000), ended(2, 2500), final(2, "and", 2500)])
    talk.report(started(3, 3400))
    assert isinstance(due, AtPosition)
    assert not due.then(3500)
    # What was said while the final was awaited counts too.
    assert [m["type"] for m in talk.report(ended(3, 3400), final(3, "on", 3400), started(4, 5000))] == [
        "Results",
        "UtteranceEnd",
    ]
    # Nothing was said: nothing has ended.
    assert [m["type"] for m in talk.report(ended(4, 5100), final(4, "", 5100))] == ["Results"]


@pytest.mark.parametrize("closing", ['{"type":"CloseStream"}', b""])
def test_the_end(closing: str | bytes) -> None:
    talk = Talk(("encoding", "linear16"))
    assert talk.receive(b"\1\2") == [Audio(b"\1\2")]
    assert talk.receive(closing) == [Stop()]
    assert talk.send("KeepAlive") == talk.receive(b"\0\0") == talk.receive("{") == []
    commands = talk.translator.on_events([events.Done(1500)])
    assert commands[-1] == Close()
    (metadata,) = sent_messages(commands)
    assert metadata.pop("request_id")
    assert metadata == {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "sha256": hashlib.sha256(b"\1\2").hexdigest(),
        "created": "1970-01-01T00:16:40.000Z",
        "duration": 1.5,
        "channels": 1,
    }


@pytest.mark.parametrize("message", ["{no", '{"type":"Dance"}', '{"type":"Configure","keyterms":"x"}', "[1]", "\ud800"])
def test_a_message_that_can_t_be_read_is_an_error_and_the_session_goes_on(message: str) -> None:
    talk = Talk()
    (error,) = sent_messages(talk.receive(message.encode("utf-8", "replace").decode()))
    assert (error["type"], error["variant"]) == ("Error", "SchemaError")
    assert error["description"]
    assert talk.receive(b"\0\0") == [Audio(b"\0\0")]


def test_keep_alive_asks_for_nothing() -> None:
    assert Talk().send("KeepAlive") == []


def test_key_terms_change_in_mid_stream() -> None:
    talk = Talk(("keyterm", "Norland"))
    (sent,) = sent_messages(talk.send("Configure", keyterms=["Elinor"], features={"punctuate": False}))
    assert (sent["type"], sent["keyterms"], talk.options.keywords) == ("ConfigureSuccess", ["Elinor"], ("Elinor",))
    assert _text(talk.report(started(1, 100), ended(1, 900), final(1, "So.", 900))[0]) == "so"
    (sent,) = sent_messages(talk.send("Configure", features={"numerals": True}))
    assert "keyterms" not in sent
    assert talk.options.keywords == ("Elinor",)
    talk.translator.received(json.dumps({"type": "Configure", "keyterms": ["x"] * 201}))
    (sent,) = sent_messages(talk.translator.failed(Failure(FailureKind.BAD_OPTION, "keywords: too many", goes_on=True)))
    assert (sent["type"], sent["code"]) == ("ConfigureFailure", "CONFIGURE_KEYTERM_LIMIT_EXCEEDED")


def test_a_failure_that_ends_the_session() -> None:
    commands = Talk().translator.failed(Failure(FailureKind.BUSY, "Try later."))
    assert sent_messages(commands) == [{"type": "Error", "variant": "busy", "description": "Try later."}]
    assert commands[-1] == Close(1013, "busy")


@pytest.mark.parametrize(
    ("control", "means"), [("KeepAlive", []), ("Finalize", [Finalize()]), ("CloseStream", [Stop()])]
)
def test_a_control_in_a_binary_frame_is_a_control(control: str, means: list[Command]) -> None:
    for message in (json.dumps({"type": control}), f'{{"type":"{control}"}}\n'):
        talk = Talk(("encoding", "linear16"), ("sample_rate", "16000"))
        assert talk.receive(message.encode()) == [BINARY_CONTROL, *means]


@pytest.mark.parametrize("audio", [b'{"typ', b"{}", b'{"type": "Loud"}', b"{" + 5000 * b" " + b"}", b"{\xff\xff}"])
def test_audio_that_looks_like_json_is_audio(audio: bytes) -> None:
    talk = Talk(("encoding", "linear16"), ("sample_rate", "16000"))
    assert talk.receive(audio) == [Audio(audio)]
