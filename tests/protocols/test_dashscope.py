"""DashScope's realtime protocol as a conversation, without a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Audio, Clear, Close, Finalize, Handshake, Stop
from streaming_asr.protocols.openai.dashscope import DashScopeTranslator
from tests.support.dialogue import sent_messages, types_of
from tests.support.realtime import TRANSCRIPTION, Talk


class DashTalk(Talk):
    def make(self, handshake: Handshake) -> Any:
        return DashScopeTranslator(handshake, self.defaults)

    def configure(self, **session: Any) -> dict[str, Any]:
        return sent_messages(self.send("session.update", event_id="e", session=session))[-1]


def _ended(utterance: int, text: str) -> Sequence[events.Event]:
    return (
        events.SpeechEnded(utterance, 0, 100, 1100, EndReason.ENDPOINT),
        events.Final(utterance, 0, text, "en", 100, 1100, None, None),
    )


def test_text_is_what_is_stable_and_stash_the_rest() -> None:
    talk = DashTalk(("model", "qwen3-asr-flash-realtime"))
    session = talk.created["session"]
    assert (session["model"], session["modalities"], talk.options.sample_rate) == (
        "qwen3-asr-flash-realtime",
        ["text"],
        16_000,
    )
    sent = talk.report(events.SpeechStarted(1, 0, 100), events.Partial(1, 0, 1, "", "to b", "en", 100, 900))
    sent += talk.report(events.Partial(1, 0, 2, " to be", " or", "en", 100, 1000), *_ended(1, "To be or not."))
    assert types_of(sent) == [
        "input_audio_buffer.speech_started",
        f"{TRANSCRIPTION}.text",
        f"{TRANSCRIPTION}.text",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.created",
        f"{TRANSCRIPTION}.text",
        f"{TRANSCRIPTION}.completed",
    ]
    texts = [(event["text"], event["stash"]) for event in sent if event["type"].endswith(".text")]
    assert texts == [("", "to b"), ("to be", " or"), ("To be or not.", "")]
    assert (sent[-1]["transcript"], sent[-1]["language"], sent[-1]["emotion"]) == ("To be or not.", "en", "neutral")


def test_what_its_client_sends() -> None:
    talk = DashTalk()
    updated = talk.configure(
        modalities=["text"],
        voice=None,
        input_audio_format="pcm",
        sample_rate=8000,
        input_audio_transcription={"language": "en", "corpus": {"text": "names"}},
        turn_detection={
            "type": "server_vad",
            "threshold": 0.2,
            "prefix_padding_ms": 400,
            "silence_duration_ms": 800,
        },
    )
    assert updated["type"] == "session.updated"
    assert updated["session"]["turn_detection"]["silence_duration_ms"] == 800
    assert talk.options == SessionOptions(
        sample_rate=8000, language="en", context="names", vad_threshold=0.5, pre_roll_ms=400, endpoint_ms=800
    )
    assert talk.send("input_audio_buffer.append", audio="AAA=") == [Audio(b"\0\0")]
    assert talk.send("input_audio_buffer.clear")[0] == Clear()


@pytest.mark.parametrize(("theirs", "ours"), [(-1, 0.05), (0.0, 0.5 / 1.2), (0.2, 0.5), (1.0, 0.95)])
def test_its_threshold_runs_from_minus_one(theirs: float, ours: float) -> None:
    talk = DashTalk()
    talk.configure(turn_detection={"type": "server_vad", "threshold": theirs})
    assert talk.options.vad_threshold == pytest.approx(ours)


def test_the_newer_form_of_the_format() -> None:
    talk = DashTalk()
    updated = talk.configure(audio={"input": {"format": {"type": "pcm", "sample_rate": 48_000}}})
    assert (talk.options.sample_rate, updated["session"]["sample_rate"]) == (48_000, 48_000)
    error = talk.configure(audio={"input": {"format": {"type": "opus", "sample_rate": 48_000}}})
    assert (error["type"], error["error"]["event_id"]) == ("error", "e")
    assert "pcm" in error["error"]["message"]


def test_manual_mode_and_back() -> None:
    talk = DashTalk()
    talk.configure(turn_detection=None)
    talk.report(events.SpeechStarted(1, 0, 100), *_ended(1, "One."), events.SpeechStarted(2, 0, 100))
    sent = talk.report(events.Partial(2, 0, 1, "", "Two", "en", 0, 0))
    assert (sent[0]["text"], sent[0]["stash"]) == ("One.", " Two")
    assert talk.send("input_audio_buffer.commit") == [Finalize()]
    assert talk.report(*_ended(2, "Two."))[-1]["transcript"] == "One. Two."
    talk.configure(turn_detection={"type": "server_vad"})
    assert talk.options.endpoint_ms == 500


def test_finish_completes_the_items_and_ends() -> None:
    talk = DashTalk()
    talk.configure(turn_detection=None)
    talk.report(events.SpeechStarted(1, 0, 100), *_ended(1, "One."))
    assert talk.send("session.finish") == [Stop()]
    commands = talk.translator.on_events([events.Done(1000)])
    assert types_of(sent_messages(commands))[-2:] == [f"{TRANSCRIPTION}.completed", "session.finished"]
    assert commands[-1] == Close(1000, "finished")
    silent = DashTalk()
    silent.send("session.finish")
    assert types_of(sent_messages(silent.translator.on_events([events.Done(0)]))) == ["session.finished"]


def test_errors_have_a_code_and_a_message() -> None:
    for bad in ("{", b"\0", '{"type":"response.create","event_id":"e"}', '{"type":"session.update"}'):
        (error,) = sent_messages(DashTalk().receive(bad))
        assert error["type"] == "error"
        assert error["error"]["message"]
        assert error["error"]["type"] == "invalid_request_error"
