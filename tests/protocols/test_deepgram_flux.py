"""Deepgram's Flux as a conversation, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Audio, BadRequest, Close, Finalize, Handshake, Stop
from streaming_asr.protocols.controls import BINARY_CONTROL
from streaming_asr.protocols.deepgram.flux import FluxTranslator
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.turns.detectors import TURN_DETECTORS
from tests.protocols.test_deepgram import Talk, ended, final, partial, started
from tests.support.dialogue import sent_messages
from tests.support.fake_turns import FakeTurnDetector, cannot_run


@pytest.fixture(autouse=True)
def no_turn_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """None can run, so that the tests of silence alone hold on every machine."""
    monkeypatch.setitem(TURN_DETECTORS, "turn", cannot_run)


class FluxTalk(Talk):
    def make(self, handshake: Handshake, defaults: SessionOptions) -> Any:
        return FluxTranslator(handshake, defaults)


def _summary(messages: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(message["event"], message["turn_index"], message["transcript"]) for message in messages]


def test_a_greeting_comes_first() -> None:
    (greeting,) = FluxTalk().greeting
    assert (greeting["type"], greeting["sequence_id"]) == ("Connected", 0)


def test_a_turn() -> None:
    talk = FluxTalk()
    assert talk.report(started(1, 100)) == [], "a turn begins with its first words"
    sent = talk.report(partial(1, "to", 500), partial(1, "to be", 900), partial(1, "To be.", 1100, speculative=True))
    sent += talk.report(ended(1, 1000), final(1, "To be.", 1000))
    assert _summary(sent) == [
        ("StartOfTurn", 0, "to"),
        ("Update", 0, "to be"),
        ("Update", 0, "To be."),
        ("EndOfTurn", 0, "To be."),
    ]
    assert [message["sequence_id"] for message in sent] == [1, 2, 3, 4]
    last = sent[-1]
    assert (last["trigger"], last["end_of_turn_confidence"], last["languages"]) == ("model", 0.7, ["en"])
    assert (last["audio_window_start"], last["audio_window_end"]) == (0.1, 1.0)
    assert last["words"][0] == {"word": "To", "confidence": 0.9, "start": 0.1, "end": 0.46}
    assert _summary(talk.report(started(2, 2000), ended(2, 3000), final(2, "Or not.", 3000))) == [
        ("StartOfTurn", 1, "Or not."),
        ("EndOfTurn", 1, "Or not."),
    ]


def test_sounds_without_words_are_no_turn() -> None:
    talk = FluxTalk()
    assert talk.report(started(1, 100), ended(1, 900), final(1, "", 900)) == []
    assert _summary(talk.report(started(2, 2000), ended(2, 3000), final(2, "So.", 3000)))[0] == (
        "StartOfTurn",
        0,
        "So.",
    )


def test_an_eager_end_is_taken_back_when_speech_goes_on() -> None:
    talk = FluxTalk(("eager_eot_threshold", "0.5"))
    sent = talk.report(started(1, 100), partial(1, "So", 500), partial(1, "So.", 700, speculative=True))
    sent += talk.report(events.SpeechResumed(1, 0, 900), partial(1, "So it", 1000))
    sent += talk.report(partial(1, "So it is.", 1500, speculative=True), ended(1, 1400), final(1, "So it is.", 1400))
    assert [message["event"] for message in sent] == [
        *("StartOfTurn", "EagerEndOfTurn", "TurnResumed", "Update", "EagerEndOfTurn", "EndOfTurn")
    ]
    assert sent[1]["end_of_turn_confidence"] == 0.5


def test_without_an_eager_threshold_there_is_no_eager_end() -> None:
    sent = FluxTalk().report(started(1, 0), partial(1, "So.", 700, speculative=True), events.SpeechResumed(1, 0, 900))
    assert [message["event"] for message in sent] == ["StartOfTurn"]


@pytest.mark.parametrize(
    ("query", "endpoint_ms", "pause_ms", "trigger"),
    [
        ({}, 500, 200, "model"),
        ({"eot_threshold": "0.5"}, 214, 200, "model"),
        ({"eot_threshold": "0.9", "eager_eot_threshold": "0.7"}, 1929, 500, "model"),
        ({"eager_eot_threshold": "0.3"}, 500, 92, "model"),
        ({"eot_threshold": "1.0", "eot_timeout_ms": "3000"}, 3000, 200, "timeout"),
        ({"eot_threshold": "1.0", "eot_timeout_ms": "60000"}, 10_000, 200, "timeout"),
    ],
)
def test_thresholds_are_silences(query: dict[str, str], endpoint_ms: int, pause_ms: int, trigger: str) -> None:
    talk = FluxTalk(*query.items())
    assert (talk.options.endpoint_ms, talk.options.pause_ms) == (endpoint_ms, pause_ms)
    sent = talk.report(started(1, 0), ended(1, 900), final(1, "So.", 900))
    assert sent[-1]["trigger"] == trigger


JUDGED = SessionOptions(endpointing="mine")


def test_thresholds_are_those_of_a_turn_detector_where_there_is_one() -> None:
    asked = {"eot_threshold": "0.8", "eager_eot_threshold": "0.4", "eot_timeout_ms": "60000"}
    options = FluxTalk(*asked.items(), defaults=JUDGED).options
    assert (options.turn_threshold, options.eager_threshold, options.endpoint_max_ms) == (0.8, 0.4, 60_000)
    assert (options.endpointing, options.endpoint_ms, options.short_pause_ms) == ("mine", 857, 96)
    assert FluxTalk(defaults=JUDGED).options.endpoint_max_ms == JUDGED.endpoint_max_ms


@pytest.mark.parametrize(("runs", "endpointing"), [(True, "turn"), (False, "silence")])
def test_flux_has_a_turn_detector_where_one_can_run(
    monkeypatch: pytest.MonkeyPatch, runs: bool, endpointing: str
) -> None:
    monkeypatch.setitem(TURN_DETECTORS, "turn", FakeTurnDetector if runs else cannot_run)
    assert FluxTalk().options.endpointing == endpointing


def test_eager_ends_and_their_confidence_are_the_turn_detector_s() -> None:
    talk = FluxTalk(("eager_eot_threshold", "0.4"), defaults=JUDGED)
    sent = talk.report(started(1, 100), partial(1, "So.", 700, speculative=True), events.SpeechResumed(1, 0, 900))
    assert [message["event"] for message in sent] == ["StartOfTurn"], "a pause alone is no eager end"
    sent = talk.report(events.EagerTurnEnd(1, 0, 1400, "So it is.", 0.61), events.TurnResumed(1, 0, 1900))
    sent += talk.report(
        events.EagerTurnEnd(1, 0, 2400, "So it is, then.", 0.52),
        events.SpeechEnded(1, 0, 100, 2400, EndReason.TURN, 0.934),
        final(1, "So it is, then.", 2400),
    )
    assert [(message["event"], message["transcript"], message["end_of_turn_confidence"]) for message in sent] == [
        ("EagerEndOfTurn", "So it is.", 0.61),
        ("TurnResumed", "So it is.", 0.0),
        ("EagerEndOfTurn", "So it is, then.", 0.52),
        ("EndOfTurn", "So it is, then.", 0.934),
    ]
    assert [word["word"] for word in sent[0]["words"]] == ["So", "it", "is."]
    assert sent[-1]["trigger"] == "model"


@pytest.mark.parametrize(
    ("reason", "probability", "trigger", "confidence"),
    [
        (EndReason.TURN, 0.93, "model", 0.93),
        (EndReason.TIMEOUT, 0.08, "timeout", 0.08),
        (EndReason.ENDPOINT, None, "model", 0.7),
        (EndReason.FINALIZE, None, "manual", 1.0),
    ],
)
def test_what_ended_a_turn(reason: EndReason, probability: float | None, trigger: str, confidence: float) -> None:
    """Silence alone ends it if the detector has not answered."""
    talk = FluxTalk(defaults=JUDGED)
    speech_ended = events.SpeechEnded(1, 0, 0, 900, reason, probability)
    sent = talk.report(started(1, 0), speech_ended, final(1, "So.", 900))
    assert (sent[-1]["trigger"], sent[-1]["end_of_turn_confidence"]) == (trigger, confidence)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("eot_threshold", "0.4", "0.5 to 1"),
        ("eager_eot_threshold", "0.8", "above eot_threshold"),
        ("eot_timeout_ms", "100", "500 to 60000"),
        ("encoding", "opus", "linear16"),
    ],
)
def test_a_bad_parameter_refuses_the_handshake(name: str, value: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        FluxTalk((name, value))


def test_a_turn_longer_than_an_utterance() -> None:
    talk = FluxTalk(("eager_eot_threshold", "0.5"))
    sent = talk.report(
        started(1, 100), partial(1, "and so", 29_000), ended(1, 30_000, EndReason.LENGTH), started(2, 30_000)
    )
    sent += talk.report(final(1, "And so", 30_000), partial(2, "on", 31_000), ended(2, 31_000), final(2, "on.", 31_000))
    assert _summary(sent) == [("StartOfTurn", 0, "and so"), ("Update", 0, "And so on"), ("EndOfTurn", 0, "And so on.")]
    assert [word["word"] for word in sent[-1]["words"]] == ["And", "so", "on."]


def test_a_turn_goes_on_after_a_long_silence() -> None:
    talk = FluxTalk(("eager_eot_threshold", "0.4"), defaults=JUDGED)
    sent = talk.report(started(1, 100), events.EagerTurnEnd(1, 0, 1400, "So it is.", 0.61))
    sent += talk.report(
        events.TurnResumed(1, 0, 31_000),
        events.SpeechEnded(1, 0, 100, 1400, EndReason.LENGTH, 0.61),
        final(1, "So it is.", 1400),
        started(2, 31_000),
    )
    sent += talk.report(
        events.EagerTurnEnd(2, 0, 32_000, "Or not.", 0.5),
        events.SpeechEnded(2, 0, 31_000, 32_000, EndReason.TIMEOUT, 0.5),
        final(2, "Or not.", 32_000),
    )
    assert [(message["event"], message["turn_index"], message["transcript"]) for message in sent] == [
        ("StartOfTurn", 0, "So it is."),
        ("EagerEndOfTurn", 0, "So it is."),
        ("TurnResumed", 0, "So it is."),
        ("EagerEndOfTurn", 0, "So it is. Or not."),
        ("EndOfTurn", 0, "So it is. Or not."),
    ]
    assert (sent[-1]["trigger"], sent[-1]["audio_window_start"]) == ("timeout", 0.1)
    assert [word["word"] for word in sent[-1]["words"]] == ["So", "it", "is.", "Or", "not."]


def test_an_eager_end_of_silence_alone_is_taken_back_when_another_utterance_goes_on() -> None:
    talk = FluxTalk(("eager_eot_threshold", "0.5"))
    sent = talk.report(started(1, 100), partial(1, "So.", 28_000, speculative=True))
    sent += talk.report(ended(1, 28_000, EndReason.LENGTH), final(1, "So.", 28_000), started(2, 30_500))
    assert [message["event"] for message in sent] == ["StartOfTurn", "EagerEndOfTurn", "TurnResumed"]


def test_the_next_turn_waits_for_the_end_of_the_one_before() -> None:
    talk = FluxTalk()
    talk.report(started(1, 100), partial(1, "to", 500), ended(1, 900))
    assert talk.report(started(2, 1500), partial(2, "or", 1900)) == []
    assert _summary(talk.report(final(1, "To be.", 900))) == [("EndOfTurn", 0, "To be."), ("StartOfTurn", 1, "or")]


def test_a_turn_is_forced_to_end() -> None:
    talk = FluxTalk()
    talk.report(started(1, 100), partial(1, "to", 500))
    assert talk.send("ForceEndTurn") == [Finalize()]
    sent = talk.report(ended(1, 900, EndReason.FINALIZE), final(1, "To be.", 900), events.Finalized(0, 900))
    assert [(message["event"], message["trigger"]) for message in sent] == [("EndOfTurn", "manual")]


def test_the_end() -> None:
    talk = FluxTalk()
    assert talk.receive(b"\0\0") == [Audio(b"\0\0")]
    assert talk.send("CloseStream") == [Stop()]
    assert talk.send("CloseStream") == talk.receive(b"\0\0") == []
    assert talk.translator.on_events([events.Done(1500)]) == [Close()]


def test_configure() -> None:
    talk = FluxTalk(("language_hint", "en"), ("keyterm", "Norland"))
    assert talk.options.language == "en"
    (sent,) = sent_messages(talk.send("Configure", thresholds={"eot_threshold": 0.9}, language_hints=["en", "de"]))
    assert sent["type"] == "ConfigureSuccess"
    assert sent["thresholds"] == {"eot_threshold": 0.9, "eot_timeout_ms": 5000}
    assert (sent["keyterms"], sent["language_hints"]) == (["Norland"], ["en", "de"])
    assert (talk.options.endpoint_ms, talk.options.language) == (1929, None)
    (sent,) = sent_messages(talk.send("Configure", thresholds={"eot_threshold": 2.0}, keyterms=["x"]))
    assert (sent["type"], talk.options.keywords) == ("ConfigureFailure", ("Norland",))
    talk.translator.received('{"type":"Configure","language_hints":["xx"]}')
    (sent,) = sent_messages(
        talk.translator.failed(Failure(FailureKind.BAD_OPTION, "language: not known", goes_on=True))
    )
    assert sent["type"] == "ConfigureFailure"
    (sent,) = sent_messages(talk.send("Configure", keyterms=["Elinor"]))
    assert (sent["keyterms"], sent["language_hints"]) == (["Elinor"], ["en", "de"])


@pytest.mark.parametrize("message", ["{no", '{"type":"Dance"}'])
def test_a_message_that_can_t_be_read_is_a_warning_which_clients_survive(message: str) -> None:
    talk = FluxTalk()
    (sent,) = sent_messages(talk.receive(message))
    assert (sent["type"], sent["code"], sent["sequence_id"]) == ("Warning", "UNPARSABLE_CLIENT_MESSAGE", 1)


def test_failures_and_warnings() -> None:
    talk = FluxTalk()
    (sent,) = talk.report(events.SessionWarning("audio_clipped", "Too loud."))
    assert (sent["type"], sent["code"]) == ("Warning", "AUDIO_CLIPPED")
    commands = talk.translator.failed(Failure(FailureKind.IDLE, "Nothing came."))
    (error,) = sent_messages(commands)
    assert (error["type"], error["code"], error["description"]) == ("Error", "IDLE", "Nothing came.")
    assert commands[-1] == Close(1008, "idle")


def test_a_control_in_a_binary_frame_is_a_control() -> None:
    assert FluxTalk().receive(b'{"type": "KeepAlive"}') == [BINARY_CONTROL]
    assert FluxTalk().receive(b'{"type": "CloseStream"}') == [BINARY_CONTROL, Stop()]
    assert FluxTalk().receive(b'{"typ') == [Audio(b'{"typ')]
