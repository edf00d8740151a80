"""A turn detector judges pauses: they then last shorter or longer, and silence decides where it does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.events import (
    EagerTurnEnd,
    EndReason,
    Event,
    Final,
    Partial,
    SpeechEnded,
    SpeechStarted,
    TurnResumed,
)
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Hypothesis, Kind
from streaming_asr.core.session import Session
from streaming_asr.core.turn import Pause, TurnQuestion
from tests.support.fakes import CAPABILITIES, FRAME, AskingDetector, FakeDetector, read, silence, speech

SURE, UNSURE, SURELY_NOT = 1.0, 0.5, 0.0


class FakeTurns:
    """Is never asked itself: tests answer its questions."""

    def __init__(self, *asks_at_ms: int) -> None:
        self.asks_at_ms = asks_at_ms or (200,)

    def probability(self, pause: Pause) -> float:
        raise AssertionError("the core asked by itself")


def make_session(turns: FakeTurns | None = None, **options: Any) -> Session:
    given = SessionOptions(encoding=Encoding.F32LE, **options)
    return Session(
        "s", given, CAPABILITIES, lambda _: FakeDetector(), make_turn_detector=lambda _: turns or FakeTurns()
    )


def _ends(events: Sequence[Event]) -> list[tuple[int, EndReason]]:
    return [(event.end_ms, event.reason) for event in events if isinstance(event, SpeechEnded)]


def _receive(session: Session, *audio: Audio) -> list[Event]:
    return session.receive(np.concatenate(audio).tobytes(), 0.0)


def _decode(session: Session, text: str, kind: Kind) -> list[Event]:
    """Decode what the session wants next."""
    demand = session.demand()
    assert demand is not None
    assert demand.kind is kind
    job = demand.take(1, 0.0)
    assert job is not None
    return session.complete(1, Hypothesis(tokens=(1,), pieces=(text,), language="en"), 0.0)


def _question(session: Session) -> TurnQuestion:
    (question,) = session.take_questions()
    return question


@pytest.mark.parametrize(
    ("probability", "ends_after_ms", "reason"),
    [
        (SURE, 300, EndReason.TURN),
        (UNSURE, 500, EndReason.TURN),
        (SURELY_NOT, 1500, EndReason.TIMEOUT),
        (None, 500, EndReason.ENDPOINT),
    ],
)
def test_the_answer_says_how_long_the_silence_must_last(
    probability: float | None, ends_after_ms: int, reason: EndReason
) -> None:
    session = make_session()
    _receive(session, speech(1))
    for waited in range(20, 3000, 20):
        events = _receive(session, silence(0.02))
        for question in session.take_questions():
            assert waited == 200
            if probability is not None:
                events += session.judged(question, probability, 0.0)
        if _ends(events):
            break
    assert (waited, _ends(events)) == (ends_after_ms, [(1000, reason)])


def test_an_answer_that_comes_after_a_long_enough_silence_ends_the_utterance_at_once() -> None:
    session = make_session()
    _receive(session, speech(1), silence(0.3))
    (ended,) = session.judged(_question(session), SURE, 0.0)
    assert isinstance(ended, SpeechEnded)
    assert (ended.reason, ended.probability) == (EndReason.TURN, 1.0)


def test_it_is_given_what_was_said() -> None:
    session = make_session(first_partial_ms=300, pre_roll_ms=0)
    said = speech(1)
    _receive(session, said)
    demand = session.demand()
    assert demand is not None
    job = demand.take(1, 0.0)
    assert job is not None
    (partial,) = session.complete(1, read(job), 0.0)
    assert isinstance(partial, Partial)
    _receive(session, silence(0.2))
    first = _question(session).pause
    _receive(session, silence(0.2), speech(0.5, seed=1), silence(0.3))
    second = _question(session).pause
    assert first.silence_ms == second.silence_ms == 200
    assert first.text == partial.stable + partial.tentative
    assert first.language == "en"
    np.testing.assert_array_equal(first.audio, np.concatenate([said, silence(0.2)]))
    assert len(second.audio) == 2.1 * SAMPLE_RATE


def test_it_may_be_asked_again_while_the_silence_lasts_and_the_later_answer_counts() -> None:
    session = make_session(FakeTurns(200, 400))
    _receive(session, speech(1), silence(0.2))
    early = _question(session)
    _receive(session, silence(0.2))
    late = _question(session)
    assert (early.pause.silence_ms, late.pause.silence_ms) == (200, 400)
    assert not session.judged(late, SURELY_NOT, 0.0)
    assert not session.judged(early, SURE, 0.0), "an answer to an earlier question"
    assert not _ends(_receive(session, silence(1.0)))
    assert _ends(_receive(session, silence(0.1))) == [(1000, EndReason.TIMEOUT)]


def test_it_is_asked_no_sooner_than_a_pause_begins() -> None:
    session = make_session(FakeTurns(200, 300), short_pause_ms=400, pause_ms=400)
    _receive(session, speech(1), silence(0.38))
    assert not session.take_questions()
    _receive(session, silence(0.02))
    assert _question(session).pause.silence_ms == 400


def test_an_answer_that_comes_after_speech_went_on_is_ignored() -> None:
    session = make_session()
    _receive(session, speech(1), silence(0.3))
    question = _question(session)
    _receive(session, speech(0.5))
    assert not session.judged(question, SURE, 0.0)
    _receive(session, silence(0.3))
    assert not session.judged(question, SURE, 0.0), "that pause was another"
    assert _ends(_receive(session, silence(0.2))) == [(1800, EndReason.ENDPOINT)]


def test_a_pause_that_is_over_before_it_can_be_judged_is_not_asked_about() -> None:
    session = make_session()
    _receive(session, speech(1), silence(0.3), speech(0.5), silence(1), speech(0.5))
    assert not session.take_questions()


@pytest.mark.parametrize("after", ["end", "finalize", "clear", "stop", "abandon"])
def test_an_answer_that_comes_after_the_utterance_is_ignored(after: str) -> None:
    session = make_session()
    _receive(session, speech(1), silence(0.3))
    question = _question(session)
    if after == "end":
        _receive(session, silence(0.3))
    elif after == "abandon":
        session.abandon()
    else:
        getattr(session, after)(0.0)
    assert not session.judged(question, SURE, 0.0)
    if after not in ("stop", "abandon"):
        # The next utterance begins without a verdict.
        assert [reason for _, reason in _ends(_receive(session, speech(1), silence(0.6)))] == [EndReason.ENDPOINT]


def test_the_wait_of_one_pause_is_not_that_of_the_next() -> None:
    session = make_session()
    _receive(session, speech(1), silence(0.2))
    session.judged(_question(session), SURELY_NOT, 0.0)
    events = _receive(session, silence(0.6), speech(1), silence(0.5))
    assert _ends(events) == [(2800, EndReason.ENDPOINT)]


def test_an_answer_ends_nothing_while_audio_is_still_to_be_examined() -> None:
    session = Session(
        "s",
        SessionOptions(encoding=Encoding.F32LE),
        CAPABILITIES,
        lambda _: AskingDetector(),
        make_turn_detector=lambda _: FakeTurns(),
    )
    _receive(session, speech(1), silence(0.3))
    question = _question(session)
    receiving = session.receiving(speech(0.5).tobytes(), 0.0)
    query = next(receiving)
    # In the audio that waits for the voice detector, speech goes on.
    assert not session.judged(question, SURE, 0.0)
    with pytest.raises(StopIteration) as end:
        receiving.send(query.network.answer([query])[0])
    assert not _ends(end.value.value)


def test_a_client_that_ends_its_utterances_itself_is_left_alone() -> None:
    session = make_session(endpoint_ms=None)
    assert not _ends(_receive(session, speech(1), silence(3)))
    assert not session.take_questions()
    assert [reason for _, reason in _ends(session.finalize(0.0))] == [EndReason.FINALIZE]


def test_a_recording_is_not_asked_about() -> None:
    options = SessionOptions(encoding=Encoding.F32LE)
    session = Session(
        "s",
        options,
        CAPABILITIES,
        lambda _: FakeDetector(),
        make_turn_detector=lambda _: FakeTurns(),
        recorded=True,
    )
    _receive(session, speech(1), silence(0.3))
    assert not session.take_questions()


def test_turn_detection_can_be_turned_on_and_off_in_mid_stream() -> None:
    options = SessionOptions(encoding=Encoding.F32LE, endpointing="silence")
    session = Session(
        "s",
        options,
        CAPABILITIES,
        lambda _: FakeDetector(),
        make_turn_detector=lambda options: FakeTurns() if options.endpointing == "turn" else None,
    )
    _receive(session, speech(1), silence(0.3))
    assert not session.take_questions()
    session.configure(0.0, endpointing="turn")
    _receive(session, speech(1), silence(0.3))
    assert session.take_questions()
    session.configure(0.0, endpointing="silence")
    _receive(session, speech(1), silence(0.3))
    assert not session.take_questions()


def test_options_that_change_in_a_pause_apply_to_it() -> None:
    session = make_session(partials=False)
    _receive(session, speech(1), silence(0.2))
    session.judged(_question(session), SURE, 0.0)
    session.configure(0.0, endpoint_ms=None)
    assert not _ends(_receive(session, silence(3))), "no silence ends it any more"
    session.configure(0.0, endpoint_ms=500)
    _receive(session, speech(1), silence(0.2))
    session.judged(_question(session), SURELY_NOT, 0.0)
    session.configure(0.0, endpoint_max_ms=800)
    assert _ends(_receive(session, silence(0.5))) == []
    assert _ends(_receive(session, silence(0.1))) == [(5200, EndReason.TIMEOUT)]


def test_a_question_of_a_pause_that_no_silence_may_end_any_more_is_dropped() -> None:
    session = make_session(partials=False)
    _receive(session, speech(1), silence(0.2))
    question = _question(session)
    session.configure(0.0, endpoint_ms=None)
    assert not _ends(session.judged(question, SURE, 0.0))
    assert not _ends(_receive(session, silence(3)))


def test_the_final_is_the_eager_text_though_the_options_of_pauses_change() -> None:
    session = make_session(eager_threshold=0.3, partials=False)
    _receive(session, speech(1), silence(0.2))
    _decode(session, "Is it he?", Kind.SPECULATIVE)
    assert session.judged(_question(session), 0.4, 0.0)
    session.configure(0.0, short_pause_ms=150, endpoint_ms=400)
    events = _receive(session, silence(2))
    assert [event.text for event in events if isinstance(event, Final)] == ["Is it he?"]


def test_the_text_of_the_whole_utterance_changes_the_wait_when_it_comes() -> None:
    session = make_session(partials=False)
    _receive(session, speech(1), silence(0.2))
    session.judged(_question(session), 0.7, 0.0)
    assert not _ends(_decode(session, "I went to the", Kind.SPECULATIVE))
    assert not _ends(_receive(session, silence(0.4))), "at 0.7 it would have been over, but the text goes on"
    (ended,) = [event for event in _receive(session, silence(0.5)) if isinstance(event, SpeechEnded)]
    assert ended.reason is EndReason.TIMEOUT
    assert ended.probability == pytest.approx(0.4)


def test_an_eager_end_is_sent_once_a_pause_when_the_text_is_there_and_is_taken_back() -> None:
    session = make_session(FakeTurns(200, 300), eager_threshold=0.3, partials=False)
    _receive(session, speech(1), silence(0.2))
    assert not session.judged(_question(session), 0.4, 0.0), "there is no text to answer to"
    events = _decode(session, " Is it he", Kind.SPECULATIVE)
    assert EagerTurnEnd(1, 0, 1000, "Is it he", 0.4, "en") in events
    _receive(session, silence(0.1))
    assert not session.judged(_question(session), 0.45, 0.0), "once a pause"
    assert TurnResumed(1, 0, 1300) in _receive(session, speech(0.5))
    _receive(session, silence(0.2))
    _decode(session, " Is it he that", Kind.SPECULATIVE)
    assert not session.judged(_question(session), 0.4, 0.0), "a text that stops in mid-phrase counts less"
    _receive(session, speech(0.5), silence(0.3))
    _decode(session, " Is it he that is there?", Kind.SPECULATIVE)
    events = session.judged(_question(session), SURE, 0.0)
    assert [type(event) for event in events] == [EagerTurnEnd, SpeechEnded, Final]
    assert isinstance(events[0], EagerTurnEnd)
    assert isinstance(events[2], Final)
    assert events[0].text == events[2].text


def test_no_eager_end_is_sent_unless_it_is_asked_for() -> None:
    session = make_session(partials=False)
    _receive(session, speech(1), silence(0.2))
    _decode(session, "So.", Kind.SPECULATIVE)
    assert not session.judged(_question(session), 0.9, 0.0)


def _turn_surely_not_over(session: Session, said: Audio) -> None:
    """Speech, a pause, an eager end, and a wait of 54 s."""
    _receive(session, said, silence(0.2))
    _decode(session, "So it", Kind.SPECULATIVE)
    assert [type(event) for event in session.judged(_question(session), 0.05, 0.0)] == [EagerTurnEnd]


@pytest.mark.parametrize("said_s", [4.0, 29.5])
def test_a_turn_may_wait_for_longer_than_an_utterance(said_s: float) -> None:
    session = make_session(eager_threshold=0.05, partials=False, endpoint_max_ms=60_000, pre_roll_ms=0)
    _turn_surely_not_over(session, speech(said_s))
    for _ in range(538):
        assert _receive(session, silence(0.1)) == []
        assert session.demand() is None, "nothing more is decoded"
        assert session.held_s < said_s + 11
    assert session.held_s < said_s + 1
    ended, final = _receive(session, silence(0.1))
    assert _ends([ended]) == [(1000 * said_s, EndReason.TIMEOUT)]
    assert isinstance(final, Final)
    assert final.text == "So it"


@pytest.mark.parametrize(("said_s", "silence_s"), [(4.0, 30.0), (4.0, 1.0), (1.0, 10.0)])
def test_speech_that_goes_on_too_late_for_its_utterance_continues_the_turn_in_another(
    said_s: float, silence_s: float
) -> None:
    session = make_session(eager_threshold=0.05, partials=False, max_utterance_s=5, endpoint_max_ms=60_000)
    _turn_surely_not_over(session, speech(said_s))
    events = _receive(session, silence(silence_s - 0.2), speech(1))
    assert [type(event) for event in events] == [TurnResumed, SpeechEnded, Final, SpeechStarted]
    at_ms = round(1000 * (said_s + silence_s))
    assert events[0] == TurnResumed(1, 0, at_ms)
    assert _ends(events) == [(1000 * said_s, EndReason.LENGTH)]
    assert isinstance(events[2], Final)
    assert events[2].text == "So it"
    assert events[3] == SpeechStarted(2, 0, at_ms)
    _receive(session, silence(0.2))
    assert _question(session).pause.silence_ms == 200
    events = _decode(session, "was.", Kind.SPECULATIVE) + _receive(session, silence(0.3))
    assert [type(event) for event in events[-2:]] == [SpeechEnded, Final]


def test_a_final_that_is_decoded_late_is_that_of_the_speech_before_the_long_pause() -> None:
    session = make_session(partials=False, pre_roll_ms=0)
    said = speech(1)
    _receive(session, said, silence(0.2))
    demand = session.demand()
    assert demand is not None
    session.judged(_question(session), 0.0, 0.0)
    session.configure(0.0, endpoint_max_ms=60_000)
    _receive(session, silence(30))
    session.configure(0.0, pre_roll_ms=2000)
    assert session.held_s < 2
    job = demand.take(1, 0.0)
    assert job is not None
    np.testing.assert_array_equal(job.audio, np.concatenate([said, silence(0.1)])[: len(job.audio)])
    assert len(job.audio) == pytest.approx(1.1 * SAMPLE_RATE, abs=FRAME)
    events = session.complete(1, Hypothesis(pieces=("So",)), 0.0) + _receive(session, speech(1), silence(1))
    assert [event.end_ms for event in events if isinstance(event, SpeechEnded)] == [1000, 32_200]


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=8),
    answers=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60)), min_size=1, max_size=8),
)
def test_whenever_answers_come_utterances_follow_one_another_and_have_one_final_each(
    parts: list[tuple[bool, int]], answers: list[tuple[float, int]]
) -> None:
    audio = np.concatenate([(speech if voiced else silence)(tenths / 20) for voiced, tenths in parts])
    session = make_session(FakeTurns(200, 400), partials=False)
    events: list[Event] = []
    waiting: list[tuple[int, float, TurnQuestion]] = []
    asked = 0
    for frame, start in enumerate(range(0, len(audio), FRAME)):
        events += _receive(session, audio[start : start + FRAME])
        for question in session.take_questions():
            probability, delay = answers[asked % len(answers)]
            waiting.append((frame + delay, probability, question))
            asked += 1
        for due, probability, question in [one for one in waiting if one[0] <= frame]:
            waiting.remove((due, probability, question))
            events += session.judged(question, probability, 0.0)
    events += session.stop(0.0)
    jobs = 0
    while demand := session.demand():
        jobs += 1
        job = demand.take(jobs, 0.0)
        assert job is not None
        events += session.complete(jobs, replace(read(job), words=None), 0.0)
    started = [event.utterance for event in events if isinstance(event, SpeechStarted)]
    ended = [event.utterance for event in events if isinstance(event, SpeechEnded)]
    finals = [event.utterance for event in events if isinstance(event, Final)]
    assert started == ended == finals == list(range(1, len(started) + 1))
