"""OpenAI's realtime protocol as conversations, without a socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.protocols.base import Audio, Clear, Close, Configure, Finalize, Handshake, Lifetime
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.protocols.openai.dialects import RealtimeTranslator
from streaming_asr.protocols.openai.session import COMMIT_ENDPOINT_MS, LOGPROBS, PARTIALS, WAITS
from streaming_asr.turns.detectors import TURN_DETECTORS
from tests.support.dialogue import sent_messages, types_of
from tests.support.fake_turns import FakeTurnDetector, cannot_run
from tests.support.realtime import TRANSCRIPTION, Talk

ITEM = "item_s1_1"


def test_a_session_is_created_at_once() -> None:
    talk = Talk(("intent", "transcription"))
    assert talk.first[0] == Lifetime(3600, 900)
    assert talk.options.sample_rate == 24_000
    created = talk.created
    assert (created["type"], created["id"], created["created"]) == ("session.created", "sess_s1", 1000)
    session = created["session"]
    assert (session["id"], session["type"], session["expires_at"]) == ("sess_s1", "transcription", 4600)
    assert session["object"] == "realtime.transcription_session"
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    }


def test_speech_from_its_start_to_its_text() -> None:
    talk = Talk()
    sent = talk.report(events.SpeechStarted(1, 0, 900), events.Partial(1, 0, 1, " two", " b", "en", 900, 1500))
    sent += talk.report(events.SpeechEnded(1, 0, 900, 3200, EndReason.ENDPOINT))
    sent += talk.report(events.Final(1, 0, "two bees", "en", 900, 3200, 0.9, None))
    assert types_of(sent) == [
        "input_audio_buffer.speech_started",
        f"{TRANSCRIPTION}.delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.delta",
        f"{TRANSCRIPTION}.completed",
    ]
    assert {event.get("item_id", event.get("item", {}).get("id")) for event in sent} == {ITEM}
    assert sent[0]["audio_start_ms"] == 900
    assert sent[2]["audio_end_ms"] == 3200
    assert sent[3]["previous_item_id"] is None
    assert sent[4]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert sent[1]["delta"] + sent[6]["delta"] == sent[7]["transcript"] == "two bees"
    assert sent[7]["usage"] == {"type": "duration", "seconds": 2.3}
    assert sent[7]["languages"] == [{"code": "en"}]
    assert "logprobs" not in sent[7]
    assert len({event["event_id"] for event in sent}) == len(sent)
    assert talk.speak("more", 2)[2]["previous_item_id"] == ITEM


def test_the_whole_configuration_is_returned() -> None:
    talk = Talk()
    answer = talk.update(
        format={"type": "audio/pcm", "rate": 16_000},
        transcription={
            "model": "gpt-4o-transcribe",
            "language": "EN-us",
            "prompt": "p",
            "keywords": ["Qwen"],
            "delay": "low",
        },
        noise_reduction={"type": "near_field"},
        turn_detection={"type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 600, "silence_duration_ms": 350},
    )
    assert answer["type"] == "session.updated"
    shown = answer["session"]["audio"]["input"]
    assert shown["format"] == {"type": "audio/pcm", "rate": 16_000}
    assert shown["transcription"]["keywords"] == ["Qwen"]
    assert shown["noise_reduction"] == {"type": "near_field"}
    assert shown["turn_detection"]["threshold"] == 0.6
    assert talk.options == SessionOptions(
        sample_rate=16_000,
        language="en",
        context="p",
        keywords=("Qwen",),
        vad_threshold=0.6,
        pre_roll_ms=600,
        endpoint_ms=350,
        first_partial_ms=300,
        partial_interval_ms=500,
    )


def test_what_is_absent_stays_and_null_turns_off() -> None:
    talk = Talk()
    talk.update(
        transcription={"language": "de", "prompt": "p"}, turn_detection={"type": "server_vad", "threshold": 0.7}
    )
    shown = talk.update(transcription={"prompt": "q"})["session"]["audio"]["input"]
    assert shown["transcription"] == {"language": "de", "prompt": "q"}
    assert (talk.options.language, talk.options.context, talk.options.vad_threshold) == ("de", "q", 0.7)
    talk.update(transcription={"language": None}, turn_detection=None)
    assert (talk.options.language, talk.options.endpoint_ms, talk.options.vad) == (None, COMMIT_ENDPOINT_MS, "thorough")
    shown = talk.update(turn_detection={"type": "server_vad"})["session"]["audio"]["input"]
    assert shown["turn_detection"]["silence_duration_ms"] == 500
    assert (talk.options.endpoint_ms, talk.options.vad) == (500, "adaptive")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"format": {"type": "audio/pcmu"}}, {"encoding": Encoding.MULAW, "sample_rate": 8000}),
        ({"format": {"type": "audio/pcma"}}, {"encoding": Encoding.ALAW, "sample_rate": 8000}),
        ({"format": {"type": "audio/pcm", "rate": 48_000}}, {"encoding": Encoding.S16LE, "sample_rate": 48_000}),
        ({"format": {"type": "audio/pcm"}}, {"sample_rate": 24_000}),
        ({"transcription": {"languages": ["en-GB", "en"]}}, {"language": "en"}),
        ({"transcription": {"languages": ["en", "zh"]}}, {"language": None}),
        *(
            ({"transcription": {"delay": delay}}, {"first_partial_ms": first, "partial_interval_ms": interval})
            for delay, (first, interval) in PARTIALS.items()
        ),
        *(
            (
                {"turn_detection": {"type": "semantic_vad", "eagerness": eagerness}},
                {"endpoint_min_ms": waits.least, "endpoint_ms": waits.usual, "endpoint_max_ms": waits.most},
            )
            for eagerness, waits in WAITS.items()
        ),
        ({"turn_detection": {"type": "semantic_vad"}}, {"endpoint_ms": WAITS["auto"].usual}),
        (
            {"turn_detection": {"type": "server_vad", "threshold": 1, "silence_duration_ms": 25.0}},
            {"vad_threshold": 0.95, "endpoint_ms": 100},
        ),
        ({"turn_detection": {"type": "server_vad", "prefix_padding_ms": 9000}}, {"pre_roll_ms": 2000}),
    ],
)
def test_what_a_field_means(given: dict[str, Any], options: dict[str, Any]) -> None:
    talk = Talk()
    assert talk.update(**given)["type"] == "session.updated"
    assert {name: getattr(talk.options, name) for name in options} == options


@pytest.mark.parametrize(("runs", "endpointing"), [(True, "turn"), (False, "silence")])
def test_semantic_vad_has_a_turn_detector_where_one_can_run(
    monkeypatch: pytest.MonkeyPatch, runs: bool, endpointing: str
) -> None:
    monkeypatch.setitem(TURN_DETECTORS, "turn", FakeTurnDetector if runs else cannot_run)
    talk = Talk()
    responses = {"create_response": False, "interrupt_response": True}
    shown = talk.update(turn_detection={"type": "semantic_vad", "eagerness": "high", **responses})
    assert shown["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "high",
        **responses,
    }
    assert talk.options.endpointing == endpointing
    talk.update(turn_detection={"type": "server_vad"})
    assert (talk.options.endpointing, talk.options.endpoint_max_ms) == ("silence", 1_500)


def test_the_operator_s_turn_detector_serves_every_client_but_those_that_commit() -> None:
    talk = Talk(defaults=SessionOptions(endpointing="mine", endpoint_max_ms=3_000))
    for detection in ({"type": "server_vad"}, {"type": "semantic_vad"}):
        talk.update(turn_detection=detection)
        assert talk.options.endpointing == "mine"
    talk.update(turn_detection=None)
    assert talk.options.endpointing == "silence"


def test_the_server_s_defaults_apply_where_the_client_sets_nothing() -> None:
    defaults = SessionOptions(endpoint_ms=700, language="de", keywords=("k",), vad_threshold=0.4, vad="webrtc")
    talk = Talk(defaults=defaults)
    assert talk.options == defaults.changed(sample_rate=24_000)
    talk.update(turn_detection=None)
    assert talk.options.vad == "webrtc"


def test_a_client_s_commit_ends_an_item() -> None:
    talk = Talk()
    talk.update(turn_detection=None)
    assert talk.send("input_audio_buffer.append", audio=base64.b64encode(b"\1\2").decode()) == [Audio(b"\1\2")]
    sent = talk.speak("one.") + talk.speak("Two.", 2)
    assert set(types_of(sent)) == {f"{TRANSCRIPTION}.delta"}
    assert talk.send("input_audio_buffer.commit") == [Finalize()]
    sent += talk.report(events.Finalized(0, 2000))
    assert types_of(sent)[-4:] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPTION}.completed",
    ]
    deltas = "".join(event["delta"] for event in sent if event["type"] == f"{TRANSCRIPTION}.delta")
    assert deltas == sent[-1]["transcript"] == "one. Two."
    talk.send("input_audio_buffer.commit")
    empty = talk.report()
    assert (empty[-1]["transcript"], empty[0]["previous_item_id"]) == ("", ITEM)


def test_clear_gets_an_answer() -> None:
    clear, answer = Talk().send("input_audio_buffer.clear")
    assert clear == Clear()
    assert sent_messages([answer])[0]["type"] == "input_audio_buffer.cleared"


def test_logprobs_come_when_asked_and_known() -> None:
    talk = Talk()
    logprobs = ((" hé", -0.1), ("llo", -0.2))
    assert "logprobs" not in talk.speak("héllo", logprobs=logprobs)[-1]
    talk.send("session.update", session={"include": [LOGPROBS]})
    assert talk.speak("héllo", 2, logprobs=logprobs)[-1]["logprobs"] == [
        {"token": " hé", "bytes": [32, 104, 195, 169], "logprob": -0.1},
        {"token": "llo", "bytes": [108, 108, 111], "logprob": -0.2},
    ]
    assert "logprobs" not in talk.speak("hello", 3)[-1]


def test_without_transcription_only_speech_is_reported() -> None:
    talk = Talk()
    talk.update(transcription=None)
    assert types_of(talk.speak("hello"))[-1] == "conversation.item.done"


@pytest.mark.parametrize("fails", [False, True])
def test_an_item_with_deltas_is_completed_or_failed_though_transcription_is_turned_off(fails: bool) -> None:
    talk = Talk()
    talk.report(events.SpeechStarted(1, 0, 0), events.Partial(1, 0, 1, "Hello", "", "en", 0, 500))
    talk.update(transcription=None)
    final = events.Final(1, 0, "" if fails else "Hello there.", "en", 0, 900, None, None)
    warnings = [events.SessionWarning("decode_failed", "no", 0, 1)] if fails else []
    sent = talk.report(events.SpeechEnded(1, 0, 0, 900, EndReason.ENDPOINT), *warnings, final)
    assert types_of(sent)[-1] == f"{TRANSCRIPTION}.{'failed' if fails else 'completed'}"
    assert not [message for message in sent if message["type"] == f"{TRANSCRIPTION}.delta"]
    assert types_of(talk.speak("More.", 2))[-1] == "conversation.item.done"


@pytest.mark.parametrize(("kind", "code"), [(FailureKind.RESTARTING, 1012), (FailureKind.NOT_READY, 1013)])
def test_a_client_that_is_to_connect_again_gets_a_close_and_no_error(kind: FailureKind, code: int) -> None:
    """LiveKit's plugin does not connect again after an `error`."""
    talk = Talk()
    assert talk.translator.failed(Failure(kind, "later")) == [Close(code, kind.code)]


def test_a_failed_item_is_reported_without_an_error() -> None:
    talk = Talk()
    talk.report(events.SpeechStarted(1, 0, 0), events.SpeechEnded(1, 0, 0, 500, EndReason.ENDPOINT))
    final = events.Final(1, 0, "", None, 0, 500, None, None)
    (failed,) = talk.report(events.SessionWarning("decode_failed", "no", 0, 1), final)
    assert (failed["type"], failed["item_id"]) == (f"{TRANSCRIPTION}.failed", ITEM)
    assert set(failed["error"]) >= {"type", "code", "message"}


def test_the_beta_s_flat_form() -> None:
    talk = Talk(headers={"openai-beta": "realtime=v1"})
    assert talk.created["session"]["input_audio_format"] == "pcm16"
    session = {
        "input_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "whisper-1", "language": "en"},
        "input_audio_noise_reduction": {"type": "far_field"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 800},
    }
    updated = sent_messages(talk.send("transcription_session.update", session=session))[0]
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_ulaw"
    assert updated["session"]["turn_detection"]["silence_duration_ms"] == 800
    assert (talk.options.encoding, talk.options.endpoint_ms) == (Encoding.MULAW, 800)
    assert types_of(talk.speak("hi"))[2:4] == ["input_audio_buffer.committed", "conversation.item.created"]
    assert types_of(sent_messages(talk.send("session.update", session={}))) == ["session.updated"]


def test_together_s_query_and_cumulative_transcripts() -> None:
    talk = Talk(
        *[("intent", "transcription"), ("model", "openai/whisper-large-v3"), ("turn_detection", "none")],
        ("input_audio_format", "pcm_s16le_16000"),
        headers={"openai-beta": "realtime=v1"},
    )
    assert (talk.options.sample_rate, talk.options.endpoint_ms) == (16_000, COMMIT_ENDPOINT_MS)
    sent = talk.report(events.SpeechStarted(1, 0, 0), events.Partial(1, 0, 1, " to", " b", "en", 0, 1))
    sent += talk.report(events.Partial(1, 0, 2, " to", " be", "en", 0, 1))
    assert [(event["delta"], event["transcript"]) for event in sent] == [("to", "to b"), ("", "to be")]


def test_a_short_lived_key_s_session_is_what_it_begins_with() -> None:
    session = {"audio": {"input": {"transcription": {"language": "de"}, "turn_detection": None}}}
    talk = Talk(session=session)
    assert (talk.options.language, talk.options.endpoint_ms) == ("de", COMMIT_ENDPOINT_MS)
    assert talk.created["session"]["audio"]["input"]["turn_detection"] is None


def test_a_query_that_is_not_valid_is_refused() -> None:
    handshake = Handshake("/v1/realtime", (("input_audio_format", "pcm_s16le_96000"),))
    error, close = RealtimeTranslator(handshake, SessionOptions()).connected()
    assert "8000 to 48000" in sent_messages([error])[0]["error"]["message"]
    assert close == Close(CloseCode.POLICY, "bad_option")


@pytest.mark.parametrize(
    ("message", "code", "param", "says"),
    [
        ("{", "invalid_json", None, "JSON"),
        ("[1]", "invalid_message", None, "type"),
        ('"text"', "invalid_message", None, "type"),
        (b"\0\0", "invalid_message", None, "base64"),
        ('{"type":"sing","event_id":"mine"}', "unknown_type", "type", "input_audio_buffer.append"),
        ('{"type":"response.create"}', "unknown_type", "type", "session.update"),
        ('{"event_id":"mine"}', "unknown_type", "type", "session.update"),
        ('{"type":"input_audio_buffer.append","audio":"%%%"}', "invalid_audio", "audio", "base64"),
        ('{"type":"input_audio_buffer.append"}', "invalid_value", None, "audio"),
        ('{"type":"session.update"}', "invalid_value", None, "session"),
        (
            '{"type":"session.update","event_id":"mine","session":{"audio":{"input":{"format":{"type":"mp3"}}}}}',
            "invalid_value",
            "session.audio.input.format.type",
            "mp3",
        ),
    ],
)
def test_a_bad_message_is_an_error_and_the_session_goes_on(
    message: str | bytes, code: str, param: str | None, says: str
) -> None:
    talk = Talk(("intent", "transcription"))
    (command,) = talk.receive(message)
    error = sent_messages([command])[0]
    assert error["type"] == "error"
    assert (error["error"]["type"], error["error"]["code"]) == ("invalid_request_error", code)
    assert error["error"]["param"] == param
    assert says in error["error"]["message"]
    assert error["error"]["event_id"] == ("mine" if "mine" in str(message) else None)
    assert talk.speak("still here")[-1]["transcript"] == "still here"


def test_options_that_the_server_refuses_change_nothing() -> None:
    talk = Talk()
    update = {"type": "session.update", "event_id": "e7", "session": {"turn_detection": None}}
    (configure,) = talk.translator.received(json.dumps(update))
    assert isinstance(configure, Configure)
    error = sent_messages(talk.translator.failed(Failure(FailureKind.BAD_OPTION, "language: no", goes_on=True)))[0][
        "error"
    ]
    assert error == {
        "type": "invalid_request_error",
        "code": "invalid_value",
        "message": "language: no",
        "param": None,
        "event_id": "e7",
    }
    assert types_of(talk.speak("hi"))[0] == "input_audio_buffer.speech_started"
    assert talk.update()["session"]["audio"]["input"]["turn_detection"] is not None


def test_the_end_of_a_session_completes_its_items() -> None:
    talk = Talk()
    talk.update(turn_detection=None)
    talk.speak("so far")
    commands = talk.translator.failed(Failure(FailureKind.SESSION_EXPIRED, "over"))
    assert types_of(sent_messages(commands))[-2:] == [f"{TRANSCRIPTION}.completed", "error"]
    assert sent_messages(commands)[-1]["error"]["code"] == "session_expired"
    assert commands[-1] == Close(1001, "session_expired")
    busy = sent_messages(Talk().translator.failed(Failure(FailureKind.BUSY, "later")))[0]["error"]
    assert busy["type"] == "server_error"


@given(st.one_of(st.text(max_size=200), st.binary(max_size=50), st.from_regex(r'\{"type":"\w+".*\}', fullmatch=True)))
def test_no_message_breaks_it(message: str | bytes) -> None:
    for event in sent_messages(Talk().receive(message)):
        assert event["type"] == "error"
