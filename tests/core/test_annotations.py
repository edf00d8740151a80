"""Annotators change finals in order; one that is late or fails is left out, and nothing waits longer than it may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.annotations import MAX_WAITING, RECORDED_BUDGET_MS, Annotations, Inquiry
from streaming_asr.core.annotator import Annotation, Annotator, Blocking, Speech, TooLate, Watch
from streaming_asr.core.events import (
    Done,
    EagerTurnEnd,
    Event,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeechEnded,
    SpeechStarted,
)
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Hypothesis, Kind
from streaming_asr.core.session import Session
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech


class Upper(Annotator):
    """Asks nothing."""

    name = "capitals"
    options = ("withheld_words",)
    changes_partials = True

    def final(self, final: Final, speech: Speech | None) -> Final:
        assert speech is None
        return replace(final, text=self.text(final.text, final.language))

    def partial(self, partial: Partial) -> Partial:
        return replace(partial, stable=partial.stable.upper(), tentative=partial.tentative.upper())

    def text(self, text: str, language: str | None) -> str:
        return text.upper()


class Asking(Annotator):
    """Adds the answers to two questions to the text."""

    name = "answers"
    budget_ms = 200
    needs_audio = True

    def __init__(self) -> None:
        self.speeches: list[Speech] = []

    def final(self, final: Final, speech: Speech | None) -> Annotation:
        assert speech is not None
        self.speeches.append(speech)
        first = yield Blocking(lambda: "one")
        second = yield Blocking(lambda: "two")
        return replace(final, text=f"{final.text} {first} {second}")


class Failing(Annotator):
    name = "failure"

    def final(self, final: Final, speech: Speech | None) -> Final:
        raise ValueError("no")

    def text(self, text: str, language: str | None) -> str:
        raise ValueError("no")

    def partial(self, partial: Partial) -> Partial:
        raise ValueError("no")


class FailingGuard(Failing):
    name = "guard"
    guards = True
    changes_partials = True


def make_session(*annotators: Annotator, recorded: bool = False, **options: Any) -> Session:
    given = SessionOptions(encoding=Encoding.F32LE, **options)
    return Session(
        "s",
        given,
        CAPABILITIES,
        lambda _: FakeDetector(),
        make_annotators=lambda options, capabilities: annotators,
        recorded=recorded,
    )


def _receive(session: Session, *audio: Audio) -> list[Event]:
    return session.receive(np.concatenate(audio).tobytes(), 0.0)


def _decode(session: Session, text: str, job: int = 1, now: float = 0.0) -> list[Event]:
    demand = session.demand()
    assert demand is not None
    assert demand.take(job, now) is not None
    return session.complete(job, Hypothesis(tokens=(1,), pieces=(text,), language="en"), now)


def _say(session: Session, text: str, now: float = 0.0) -> list[Event]:
    """Speech, a pause, and the final decode."""
    _receive(session, speech(0.4), silence(0.6))
    return _decode(session, text, now=now)


def _answer(session: Session, inquiries: Sequence[Inquiry], now: float = 0.0) -> list[Event]:
    events: list[Event] = []
    for inquiry in inquiries:
        assert isinstance(inquiry.question, Blocking)
        events += session.annotated(inquiry, inquiry.question.answer(), now)
    return events


def _texts(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def _codes(events: Sequence[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, SessionWarning)]


def test_annotators_change_a_final_one_after_the_other() -> None:
    session = make_session(Asking(), Upper())
    assert _texts(_say(session, "said")) == []
    assert _texts(_answer(session, session.take_inquiries())) == []
    assert _texts(_answer(session, session.take_inquiries())) == ["SAID ONE TWO"]
    assert session.take_inquiries() == []


def test_one_that_asks_nothing_does_not_delay_the_final() -> None:
    assert _texts(_say(make_session(Upper()), "said")) == ["SAID"]


def test_it_is_given_the_audio_of_the_utterance() -> None:
    asking = Asking()
    session = make_session(asking, pre_roll_ms=0)
    said = speech(0.4)
    _receive(session, silence(1), said, silence(0.6))
    _decode(session, "said")
    (given,) = asking.speeches
    assert given.start_ms == 1000
    assert np.array_equal(given.audio[: len(said)], said)


def test_finals_stay_in_order_and_the_end_of_the_stream_waits_for_them() -> None:
    session = make_session(Asking())
    events = _say(session, "first") + _say(session, "second") + session.finalize(0.0) + session.stop(0.0)
    assert session.pending
    assert not [event for event in events if isinstance(event, Final | Finalized | Done)]
    # Only the first is asked about: an annotator sees one final after the other.
    while inquiries := session.take_inquiries():
        assert len(inquiries) == 1
        events += _answer(session, inquiries)
    assert _texts(events) == ["first one two", "second one two"]
    assert [type(event) for event in events][-3:] == [Final, Finalized, Done]


def test_what_is_spoken_next_does_not_wait_for_a_final() -> None:
    session = make_session(Asking())
    _say(session, "first")
    assert [type(event) for event in _receive(session, speech(0.4), silence(0.6))] == [SpeechStarted, SpeechEnded]


@pytest.mark.parametrize("failed", [True, False])
def test_one_that_does_not_answer_in_time_is_left_out(failed: bool) -> None:
    session = make_session(Asking(), Upper())
    _say(session, "said", now=5.0)
    (inquiry,) = session.take_inquiries()
    assert inquiry.due == pytest.approx(5.2)
    events = session.annotation_missed(inquiry, 5.2, failed=failed)
    assert _codes(events) == ["annotation_failed" if failed else "annotation_late"]
    assert "answers" in events[0].message  # type: ignore[union-attr]
    assert _texts(events) == ["SAID"]
    assert session.annotated(inquiry, "late", 5.3) == []


def test_both_questions_together_have_one_budget() -> None:
    session = make_session(Asking())
    _say(session, "said", now=5.0)
    session.annotated(session.take_inquiries()[0], "one", 5.15)
    (second,) = session.take_inquiries()
    assert second.due == pytest.approx(5.2)


def test_a_final_that_waited_behind_another_has_no_more_time_than_its_own() -> None:
    session = make_session(Asking())
    _say(session, "first", now=5.0)
    _say(session, "second", now=5.0)
    (inquiry,) = session.take_inquiries()
    events = session.annotation_missed(inquiry, 5.2, failed=False)
    assert _texts(events) == ["first", "second"]
    assert _codes(events) == ["annotation_late"] * 2


def test_finals_of_a_recording_wait_longer_and_reading_pauses_meanwhile() -> None:
    session = make_session(Asking(), recorded=True)
    _say(session, "said", now=5.0)
    _receive(session, silence(2))
    (inquiry,) = session.take_inquiries()
    assert inquiry.due == pytest.approx(5.0 + RECORDED_BUDGET_MS / 1000)
    held = session.held_s
    session.annotation_missed(inquiry, 6.0, failed=False)
    assert held - session.held_s > 0.4


def test_finals_of_audio_that_is_not_received_live_wait_as_those_of_a_recording() -> None:
    for live, budget_s in ((True, 0.2), (False, RECORDED_BUDGET_MS / 1000)):
        annotations = Annotations(0, [Asking()], recorded=False, live=lambda now, live=live: live)
        annotations.keep(1, silence(0.1), 0, final=True)
        assert annotations.passed([Final(1, 0, "so", "en", 0, 100, None, None)], 5.0) == []
        (inquiry,) = annotations.take_inquiries()
        assert inquiry.due == 5.0 + budget_s


def test_one_that_handles_being_late_changes_the_final_without_its_answer() -> None:
    class Prompt(Asking):
        def final(self, final: Final, speech: Speech | None) -> Annotation:
            try:
                yield Blocking(lambda: "")
            except TooLate:
                return replace(final, text="in time")
            return final

    annotations = Annotations(0, [Prompt()], recorded=False)
    annotations.keep(1, silence(0.1), 0, final=True)
    annotations.passed([Final(1, 0, "so", "en", 0, 100, None, None)], 0.0)
    (inquiry,) = annotations.take_inquiries()
    (final,) = annotations.missed(inquiry, 1.0, failed=False)
    assert isinstance(final, Final)
    assert final.text == "in time"


@pytest.mark.parametrize("annotator", [Failing(), FailingGuard()])
def test_one_that_fails_is_left_out_unless_the_text_must_not_be_sent_without_it(
    annotator: Annotator, caplog: pytest.LogCaptureFixture
) -> None:
    events = _say(make_session(annotator), "secret")
    assert _codes(events) == ["annotation_failed"]
    assert _texts(events) == ["" if annotator.guards else "secret"]
    assert "failed" in caplog.text


def test_one_that_returns_no_final_is_left_out() -> None:
    class Forgetful(Asking):
        def final(self, final: Final, speech: Speech | None) -> Any:
            yield Blocking(lambda: "")

    annotations = Annotations(0, [Forgetful()], recorded=False)
    annotations.keep(1, silence(0.1), 0, final=True)
    final = Final(1, 0, "so", "en", 0, 100, None, None)
    annotations.passed([final], 0.0)
    (inquiry,) = annotations.take_inquiries()
    warning, sent = annotations.answered(inquiry, "", 0.0)
    assert isinstance(warning, SessionWarning)
    assert sent == final


def test_a_partial_that_a_guard_fails_on_is_not_sent() -> None:
    session = make_session(FailingGuard())
    _receive(session, speech(0.5))
    assert _decode(session, "secret") == []


class Tricky(Asking):
    """Asks without a budget."""

    budget_ms = 0


def test_one_that_asks_without_a_budget_fails() -> None:
    events = _say(make_session(Tricky()), "said")
    assert (_codes(events), _texts(events)) == (["annotation_failed"], ["said"])


def test_partials_and_eager_texts_are_changed_too() -> None:
    annotations = Annotations(0, [Upper()], recorded=False)
    partial = Partial(1, 0, 1, "so", " far", "en", 0, 100)
    eager = EagerTurnEnd(1, 0, 100, "so far", 0.9, "en")
    assert annotations.passed([partial, eager], 0.0) == [
        replace(partial, stable="SO", tentative=" FAR"),
        replace(eager, text="SO FAR"),
    ]


class Fickle(Upper):
    """Takes back stable text."""

    def partial(self, partial: Partial) -> Partial:
        return replace(partial, stable=partial.stable[::-1])


def test_a_partial_that_would_take_back_stable_text_is_not_sent() -> None:
    annotations = Annotations(0, [Fickle()], recorded=False)
    first, second = (Partial(1, 0, n, text, "", "en", 0, 100) for n, text in ((1, "ab"), (2, "abc")))
    assert len(annotations.passed([first, second], 0.0)) == 1


def test_a_live_channel_keeps_a_bounded_number_of_finals() -> None:
    annotations = Annotations(0, [Asking()], recorded=False)
    sent: list[Event] = []
    for number in range(1, MAX_WAITING + 3):
        annotations.keep(number, silence(0.1), 0, final=True)
        sent += annotations.passed([Final(number, 0, "text", "en", 0, 100, None, None)], 0.0)
    assert [event.utterance for event in sent if isinstance(event, Final)] == [1, 2]
    assert _codes(sent) == ["annotation_late"] * 2
    annotations.abandon()
    assert not annotations.pending


class Watching(Annotator):
    name = "watch"
    budget_ms = 100
    needs_audio = True
    watched: ClassVar[list[float]] = []

    def watch(self, partial: Partial, speech: Speech) -> Watch:
        self.watched.append(len(speech.audio) / SAMPLE_RATE)
        label = yield Blocking(lambda: 7)
        return [replace(partial, speaker=label)]


def test_an_annotator_can_look_at_an_utterance_while_it_is_spoken() -> None:
    session = make_session(Watching(), pre_roll_ms=0)
    _receive(session, speech(0.5))
    (partial,) = _decode(session, "so far")
    (inquiry,) = session.take_inquiries()
    (labelled,) = _answer(session, [inquiry])
    assert isinstance(partial, Partial)
    assert labelled == replace(partial, speaker=7)
    assert Watching.watched == [0.5]


def test_a_partial_that_it_returns_is_changed_by_the_others() -> None:
    session = make_session(Watching(), Upper())
    _receive(session, speech(0.5))
    (partial,) = _decode(session, "so far")
    (labelled,) = _answer(session, session.take_inquiries())
    assert isinstance(partial, Partial)
    assert labelled == replace(partial, speaker=7)
    assert partial.tentative == "SO FAR"


def test_what_it_finds_after_the_final_is_dropped() -> None:
    session = make_session(Watching())
    _receive(session, speech(0.5))
    _decode(session, "so far")
    (inquiry,) = session.take_inquiries()
    _receive(session, silence(0.6))
    assert _texts(_decode(session, "all", job=2)) == ["all"]
    assert _answer(session, [inquiry]) == []


def test_an_annotator_whose_options_stay_is_kept_when_others_change() -> None:
    made: list[Annotator] = []

    def make(options: SessionOptions, capabilities: Any) -> list[Annotator]:
        made.append(Upper())
        return [made[-1]] if options.context != "none" else []

    session = Session(
        "s", SessionOptions(encoding=Encoding.F32LE), CAPABILITIES, lambda _: FakeDetector(), make_annotators=make
    )

    def current() -> Sequence[Annotator]:
        annotations = session._channels[0].annotations
        assert annotations is not None
        return annotations.annotators

    session.configure(0.0, endpoint_ms=300)
    assert current() == (made[0],)
    session.configure(0.0, withheld_words=2)
    assert current() == (made[-1],)
    session.configure(0.0, context="none")
    assert _texts(_say(session, "said")) == ["said"]
    session.configure(0.0, context="")
    assert _texts(_say(session, "said")) == ["SAID"]


def test_the_recognizer_s_context_has_guarded_texts_only() -> None:
    class Guard(Upper):
        guards = True

    session = make_session(Guard(), rolling_context=True)
    _say(session, "said")
    _receive(session, speech(0.4), silence(0.6))
    demand = session.demand()
    assert demand is not None
    assert demand.kind is Kind.FINAL
    job = demand.take(1, 0.0)
    assert job is not None
    assert job.context.previous == "SAID"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["say", "say", "answer", "answer", "miss", "fail", "late", "finalize"]), max_size=25))
def test_whatever_becomes_of_the_questions_each_final_is_sent_once_and_in_order(steps: list[str]) -> None:
    session = make_session(Asking(), Failing(), Upper())
    now, asked, events = 0.0, list[Inquiry](), list[Event]()
    for step in steps:
        now += 0.05
        if step == "say":
            events += _receive(session, speech(0.4), silence(0.6)) + _decode(session, "said", now=now)
        elif step == "finalize":
            events += session.finalize(now)
        elif step == "late":
            now += 1
        elif asked:
            inquiry = asked.pop(0)
            if step == "answer":
                events += session.annotated(inquiry, "yes", now)
            else:
                events += session.annotation_missed(inquiry, now, failed=step == "fail")
        asked += session.take_inquiries()
    events += session.stop(now)
    while asked := [*asked, *session.take_inquiries()]:
        events += session.annotation_missed(asked.pop(0), now, failed=False)
    said = list(range(1, steps.count("say") + 1))
    assert [event.utterance for event in events if isinstance(event, Final)] == said
    assert isinstance(events[-1], Done)
    assert any(isinstance(event, Finalized) for event in events) is ("finalize" in steps)
    assert not session.pending
