"""A session on plain objects: audio and results in, events and jobs out, time as an argument."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.events import (
    Done,
    EndReason,
    Event,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
)
from streaming_asr.core.options import ChannelMode, Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Audio,
    Context,
    DecodeFailed,
    DecodeJob,
    Hypothesis,
    Kind,
    RecognizerDown,
)
from streaming_asr.core.session import Session, SessionStopped
from tests.support.fakes import (
    CAPABILITIES,
    AskingDetector,
    FakeDetector,
    Simulation,
    check_invariants,
    make_session,
    read,
    silence,
    speech,
)


def _kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def _receive(session: Session, audio: Audio, now: float = 0.0) -> list[Event]:
    return session.receive(audio.tobytes(), now)


def _job(session: Session, number: int, now: float = 0.0) -> DecodeJob:
    demand = session.demand()
    assert demand is not None
    job = demand.take(number, now)
    assert job is not None
    return job


def test_a_conversation() -> None:
    """Speech, a pause that is decoded ahead of time, the endpoint: the final is there at once."""
    session = make_session(SessionOptions(first_partial_ms=300, partial_interval_ms=500))
    assert _kinds(_receive(session, speech(0.4))) == [SpeechStarted]
    partial = _job(session, 1)
    assert (partial.kind, partial.prefix) == (Kind.PARTIAL, ())
    assert session.demand() is None, "one look at a time"
    (shown,) = session.complete(1, read(partial), 0.1)
    assert isinstance(shown, Partial)
    assert shown.tentative
    assert shown.end_ms == 400

    assert _receive(session, speech(0.6, seed=1)) == []
    assert _receive(session, silence(0.2)) == []
    early = _job(session, 2)
    assert early.kind is Kind.SPECULATIVE
    assert len(early.audio) == round(1.096 * SAMPLE_RATE)
    (guess,) = session.complete(2, read(early), 1.3)
    assert isinstance(guess, Partial)
    assert guess.speculative

    ended, final = _receive(session, silence(0.3))
    assert isinstance(ended, SpeechEnded)
    assert isinstance(final, Final)
    assert (ended.start_ms, ended.end_ms, ended.reason) == (0, 1000, EndReason.ENDPOINT)
    assert final.text == read(early).text.strip()
    assert session.demand() is None
    assert session.stop(2.0) == [Done(1500)]
    assert session.done


def test_a_text_of_a_pause_that_the_final_will_not_have_is_not_called_speculative() -> None:
    session = make_session(SessionOptions(first_partial_ms=100, partial_interval_ms=100, withheld_words=0))
    pieces = (" So", " it", " is", " not", " so")
    said = Hypothesis(tokens=(1, 2, 3, 4, 5), pieces=pieces, language="en", language_probability=1.0)
    for number in (1, 2):
        _receive(session, speech(0.4))
        session.complete(_job(session, number).id, said, 0.1)
    _receive(session, silence(0.2))
    other = Hypothesis(tokens=(6,), pieces=(" No",), language="en", language_probability=1.0)
    events = session.complete(_job(session, 3).id, other, 1.0)
    assert not [event for event in events if isinstance(event, Partial) and event.speculative], "stable text stays"
    (final,) = [event for event in _receive(session, silence(0.5)) if isinstance(event, Final)]
    assert final.text == "No"


def test_speech_that_resumes_makes_a_partial_of_the_speculative_final() -> None:
    session = make_session(SessionOptions(partials=False))
    _receive(session, np.concatenate([speech(1.0), silence(0.3)]))
    early = _job(session, 1)
    session.complete(1, read(early), 1.3)
    assert _kinds(_receive(session, speech(0.5, seed=1))) == [SpeechResumed]
    (ended,) = _receive(session, silence(0.6))
    assert isinstance(ended, SpeechEnded)
    final = _job(session, 2)
    assert final.kind is Kind.FINAL
    assert len(final.audio) == round(1.896 * SAMPLE_RATE)


def test_a_speculative_final_that_comes_after_the_endpoint_is_the_final() -> None:
    session = make_session(SessionOptions(partials=False))
    _receive(session, np.concatenate([speech(1.0), silence(0.3)]))
    early = _job(session, 1)
    _receive(session, silence(0.3))
    assert session.demand() is None, "it is already under way"
    assert session.take_superseded() == []
    (final,) = session.complete(1, read(early), 2.0)
    assert isinstance(final, Final)


def test_the_next_utterance_may_begin_in_the_chunk_that_ends_one_whose_final_is_there() -> None:
    session = make_session(SessionOptions(partials=False))
    _receive(session, np.concatenate([speech(1.0), silence(0.3)]))
    session.complete(1, read(_job(session, 1)), 1.3)
    events = _receive(session, np.concatenate([silence(0.4), speech(3.0, seed=1)]))
    assert _kinds(events) == [SpeechEnded, Final, SpeechStarted]
    _receive(session, silence(0.3))
    second = _job(session, 2)
    assert len(second.audio) >= 3.2 * SAMPLE_RATE
    assert np.abs(second.audio).max() > 0.5


def test_a_final_is_decoded_whole_and_without_prefix() -> None:
    simulation = Simulation()
    session = simulation.add(make_session())
    simulation.stream(session, np.concatenate([speech(4.0), silence(1.0)]))
    simulation.stop(session)
    partials = [job for _, job in simulation.jobs if job.kind is Kind.PARTIAL]
    assert partials[-1].prefix, "later partials are forced to begin with the stable text"
    finals = [job for _, job in simulation.jobs if job.kind is not Kind.PARTIAL]
    assert [job.prefix for job in finals] == [()]
    assert len(finals[0].audio) == round(4.096 * SAMPLE_RATE)


def test_a_demand_that_no_longer_holds_yields_no_job() -> None:
    session = make_session()
    _receive(session, speech(0.5))
    partial = session.demand()
    assert partial is not None
    session.finalize(0.5)
    assert partial.take(1, 0.5) is None, "a final is wanted now"
    final = session.demand()
    assert final is not None
    assert final.take(2, 0.5) is not None
    assert final.take(3, 0.5) is None, "it is under way"
    session.abandon()
    assert final.take(4, 0.5) is None


def test_a_job_is_made_from_the_audio_of_the_moment_it_is_taken() -> None:
    session = make_session()
    _receive(session, speech(0.5))
    demand = session.demand()
    assert demand is not None
    _receive(session, speech(0.5))
    job = demand.take(1, 1.0)
    assert job is not None
    assert len(job.audio) == SAMPLE_RATE


def test_a_partial_of_an_ended_utterance_is_superseded_and_its_result_ignored() -> None:
    session = make_session()
    _receive(session, speech(0.5))
    partial = _job(session, 1)
    session.finalize(0.5)
    assert session.take_superseded() == [1]
    assert session.take_superseded() == []
    assert session.complete(1, read(partial), 0.6) == []
    final = _job(session, 2)
    assert _kinds(session.complete(2, read(final), 0.7)) == [Final, Finalized]


def test_finals_come_in_the_order_they_were_spoken() -> None:
    session = make_session(SessionOptions(partials=False))
    _receive(session, np.concatenate([speech(1.0), silence(0.6), speech(1.0, seed=1), silence(0.6)]))
    first, second = _job(session, 1), _job(session, 2)
    assert session.complete(2, read(second), 1.0) == []
    finals = session.complete(1, read(first), 2.0)
    assert [final.utterance for final in finals if isinstance(final, Final)] == [1, 2]


def test_with_rolling_context_a_final_waits_for_the_one_before() -> None:
    session = make_session(SessionOptions(partials=False, rolling_context=True))
    _receive(session, np.concatenate([speech(1.0), silence(0.6), speech(1.0, seed=1), silence(0.6)]))
    first = _job(session, 1)
    assert session.demand() is None
    session.complete(1, read(first), 1.0)
    second = _job(session, 2)
    assert second.context.previous == read(first).text.strip()


def test_finalize_twice_and_with_nothing_said() -> None:
    session = make_session()
    assert session.finalize(0.0) == [Finalized(0, 0)]
    _receive(session, speech(0.5))
    assert _kinds(session.finalize(0.5)) == [SpeechEnded]
    assert session.finalize(0.5) == [], "each place is reported once"
    job = _job(session, 1)
    assert _kinds(session.complete(1, read(job), 0.6)) == [Final, Finalized]


def test_each_finalize_is_answered_before_the_next_utterance_s_final_even_if_that_was_ready_first() -> None:
    session = make_session(SessionOptions(partials=False))
    for _ in range(2):
        _receive(session, speech(0.5))
        session.finalize(0.5)
    first, second = _job(session, 1), _job(session, 2)
    assert session.complete(2, read(second), 0.6) == []
    assert _kinds(session.complete(1, read(first), 0.7)) == [Final, Finalized, Final, Finalized]


def test_a_final_that_fails_is_tried_again_then_given_up_for_the_partial_text() -> None:
    session = make_session()
    _receive(session, speech(0.5))
    shown = session.complete(1, read(_job(session, 1)), 0.1)
    session.finalize(0.5)
    for number in (2, 3):
        _job(session, number)
        assert session.fail(number, DecodeFailed("no"), 0.6) == []
    _job(session, 4)
    warning, final, finalized = session.fail(4, DecodeFailed("no"), 0.7)
    assert isinstance(warning, SessionWarning)
    assert warning.code == "decode_failed"
    assert isinstance(final, Final)
    assert isinstance(finalized, Finalized)
    assert isinstance(shown[0], Partial)
    assert final.text == (shown[0].stable + shown[0].tentative).strip()


def test_while_the_recognizer_is_down_finals_are_tried_without_end() -> None:
    session = make_session(SessionOptions(partials=False))
    _receive(session, speech(0.5))
    session.finalize(0.5)
    for number in range(1, 50):
        _job(session, number)
        assert session.fail(number, RecognizerDown("dead"), 1.0) == []
    last = _job(session, 50)
    assert isinstance(session.complete(50, read(last), 2.0)[0], Final)


def test_partials_that_keep_failing_are_left_to_the_final() -> None:
    session = make_session(SessionOptions(first_partial_ms=100, partial_interval_ms=100))
    number = 0
    for seed in range(20):
        _receive(session, speech(0.2, seed=seed))
        if session.demand() is not None:
            number += 1
            _job(session, number)
            session.fail(number, DecodeFailed("no"), 1.0)
    assert number == 3


def test_an_echo_of_the_context_is_decoded_again_without_it() -> None:
    session = make_session(SessionOptions(partials=False, keywords=("Qwen", "Ascend")))
    _receive(session, speech(0.5))
    session.finalize(0.5)
    assert _job(session, 1).context.keywords == ("Qwen", "Ascend")
    assert session.complete(1, Hypothesis(tokens=(1,), pieces=("Qwen, Ascend",)), 0.6) == []
    again = _job(session, 2)
    assert again.context == Context()
    final = session.complete(2, Hypothesis(tokens=(2,), pieces=("hello",)), 0.7)[0]
    assert isinstance(final, Final)
    assert final.text == "hello"


def test_a_lead_in_has_no_utterance_and_gives_none_its_audio() -> None:
    """The next one may begin where it ends, as after any other, and not before."""
    session = make_session(SessionOptions(lead_in_ms=960))
    events = _receive(session, np.concatenate([silence(0.1), speech(1.06)]))
    assert _kinds(events) == [SpeechStarted]
    assert events[0].start_ms == 960
    events = _receive(session, silence(0.5))
    (job,) = [_job(session, 1)]
    assert len(job.audio) == pytest.approx(SAMPLE_RATE * (0.2 + 0.096), abs=512)
    assert session.receive(b"", 0.0) == []
    only = make_session(SessionOptions(lead_in_ms=960))
    assert _receive(only, np.concatenate([speech(0.9), silence(0.6)])) == []
    assert only.stop(1.0) == [Done(1500)]


def test_split_channels_are_transcribed_side_by_side() -> None:
    simulation = Simulation()
    options = SessionOptions(channels=2, channel_mode=ChannelMode.SPLIT)
    session = simulation.add(make_session(options))
    left = np.concatenate([speech(1.0), silence(2.0)])
    right = np.concatenate([silence(0.5), speech(1.5, seed=1), silence(1.0)])
    simulation.stream(session, np.stack([left, right], axis=1).reshape(-1), chunk=3200)
    simulation.stop(session)
    finals = simulation.finals(session)
    assert [(final.channel, final.utterance, final.start_ms, final.end_ms) for final in finals] == [
        (0, 1, 0, 1000),
        (1, 2, 500, 2000),
    ]


def test_what_is_cleared_gets_no_final() -> None:
    session = make_session()
    _receive(session, np.concatenate([speech(1.0), silence(1.0)]))
    final = _job(session, 1)
    assert SpeechStarted in _kinds(_receive(session, speech(1.0, seed=1)))
    partial = _job(session, 2)
    session.clear(3.0)
    assert session.take_superseded() == [partial.id]
    assert session.take_released() == [partial.utterance]
    assert not session.speaking
    assert _kinds(session.complete(partial.id, read(partial), 3.0)) == []
    assert _kinds(session.complete(final.id, read(final), 3.0)) == [Final]
    assert session.held_s < 1.0
    assert [event.utterance for event in _receive(session, speech(0.5)) if isinstance(event, SpeechStarted)] == [3]
    assert _kinds(session.stop(4.0)) == [SpeechEnded]


def test_the_audio_s_form_may_change_in_mid_stream() -> None:
    session = make_session()
    _receive(session, speech(0.5))
    session.configure(0.5, encoding=Encoding.MULAW, sample_rate=8000)
    session.receive(b"\xff" * 8000, 1.5)
    session.finalize(1.5)
    assert session.audio_ms == 1500


def test_the_detector_may_change_in_mid_stream_if_its_frames_do_not() -> None:
    made: list[tuple[str, float]] = []

    class FakeLongFrames(FakeDetector):
        frame_samples = 512

    def make(options: SessionOptions) -> FakeDetector:
        made.append((options.vad, options.vad_threshold))
        return FakeLongFrames() if options.vad == "webrtc" else FakeDetector()

    session = Session("s", SessionOptions(), CAPABILITIES, make)
    session.configure(0.0, vad_threshold=0.3, vad="silero")
    session.configure(0.0, endpoint_ms=300)
    assert made == [("adaptive", 0.5), ("silero", 0.3)]
    with pytest.raises(OptionError, match="webrtc can't take over in mid-stream from silero"):
        session.configure(0.0, vad="webrtc")
    assert session.options.vad == "silero"


def test_options_may_change_in_mid_stream_or_are_refused() -> None:
    session = make_session()
    session.configure(0.0, language="de", endpoint_ms=None, keywords=("a",))
    _receive(session, speech(0.5))
    session.configure(0.0, endpoint_ms=200)
    job = _job(session, 1)
    assert (job.language, job.context.keywords) == ("de", ("a",))
    assert SpeechEnded in _kinds(_receive(session, silence(0.3)))
    with pytest.raises(OptionError, match="can't change in mid-stream"):
        session.configure(0.0, channels=2)
    with pytest.raises(OptionError, match="does not know 'fr'; it knows en, de"):
        session.configure(0.0, language="fr")
    with pytest.raises(OptionError, match="100 to 10000"):
        session.configure(0.0, endpoint_ms=1)
    session.stop(1.0)
    with pytest.raises(SessionStopped):
        session.configure(0.0, language="en")


def test_an_abandoned_session_holds_nothing_and_says_nothing() -> None:
    session = make_session()
    _receive(session, speech(1.0))
    job = _job(session, 1)
    session.abandon()
    assert session.done
    assert session.complete(1, read(job), 2.0) == []
    assert session.take_released() == ["s.0/1"]
    assert session.demand() is None
    with pytest.raises(SessionStopped):
        _receive(session, speech(0.1))


def test_utterances_are_released_once_their_final_is_out() -> None:
    session = make_session(SessionOptions(partials=False))
    _receive(session, speech(1.0))
    session.finalize(1.0)
    job = _job(session, 1)
    assert session.take_released() == []
    session.complete(1, read(job), 1.1)
    assert session.take_released() == [job.utterance]


def test_an_utterance_never_grows_beyond_what_the_recognizer_takes() -> None:
    simulation = Simulation()
    capabilities = replace(CAPABILITIES, max_audio_s=10.0)
    session = simulation.add(make_session(SessionOptions(max_utterance_s=300), capabilities))
    simulation.stream(session, speech(60.0), chunk=8000)
    simulation.stop(session)
    assert max(len(job.audio) for _, job in simulation.jobs) <= 10 * SAMPLE_RATE
    *cut, last = (event for event in simulation.of(session, SpeechEnded) if isinstance(event, SpeechEnded))
    assert {event.reason for event in cut} == {EndReason.LENGTH}
    assert last.reason is EndReason.STOP
    finals = simulation.finals(session)
    assert all(a.end_ms == b.start_ms for a, b in pairwise(finals)), "nothing is lost or doubled at a cut"
    assert finals[-1].end_ms == 60_000


def test_a_partial_taken_while_the_detector_waits_for_its_network_is_no_longer_than_an_utterance() -> None:
    session = Session(
        "s", SessionOptions(encoding=Encoding.F32LE, partial_interval_ms=100), CAPABILITIES, lambda _: AskingDetector()
    )
    audio = np.concatenate([silence(0.55), speech(35)])
    lengths = []
    for number, start in enumerate(range(0, len(audio), 8000), 1):
        receiving = session.receiving(audio[start : start + 8000].tobytes(), 0.0)
        next(receiving)
        demand = session.demand()
        job = demand.take(number, 0.0) if demand else None
        if job is not None:
            lengths.append(len(job.audio) / SAMPLE_RATE)
            session.complete(number, read(job), 0.0)
        with pytest.raises(StopIteration):
            receiving.send(None)
    assert 29 < max(lengths) <= CAPABILITIES.max_audio_s


def test_memory_is_bounded_by_what_still_needs_decoding() -> None:
    simulation = Simulation()
    session = simulation.add(make_session())
    for seed in range(60):
        simulation.stream(session, np.concatenate([speech(4.0, seed), silence(1.0)]), chunk=8000)
        assert session.held_s < 6
    simulation.stream(session, silence(60.0), chunk=8000)
    assert session.held_s < 1


@pytest.mark.parametrize("paced", [True, False])
def test_any_framing_gives_the_same_utterances_and_finals(paced: bool) -> None:
    audio = np.concatenate(
        [silence(0.3), speech(2.0), silence(0.4), speech(1.0, 1), silence(0.9), speech(0.3, 2), silence(0.7)]
    )

    def events_of(chunk: int) -> list[Event]:
        simulation = Simulation()
        session = simulation.add(make_session())
        simulation.stream(session, audio, chunk, paced=paced)
        simulation.stop(session)
        check_invariants([event for _, event in simulation.events[session.key]])
        return (
            simulation.of(session, SpeechStarted) + simulation.of(session, SpeechEnded) + simulation.of(session, Final)
        )

    whole = events_of(len(audio))
    assert len([event for event in whole if isinstance(event, Final)]) == 2
    for chunk in (1, 320, 1600):
        if chunk > 1 or not paced:
            assert events_of(chunk) == whole


_PART = st.tuples(st.booleans(), st.integers(1, 250))
_PARTS = st.lists(st.one_of(*[_PART] * 7, st.just((False, 1050))), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    parts=_PARTS,
    chunk=st.sampled_from([137, 320, 1600, 16_000, 40_000, 10**9]),
    seed=st.integers(0, 10_000),
    options=st.fixed_dictionaries(
        {
            "endpoint_ms": st.sampled_from([None, 100, 500]),
            "pause_ms": st.sampled_from([60, 200]),
            "max_utterance_s": st.sampled_from([5.0, 30.0]),
            "rolling_context": st.booleans(),
            "first_partial_ms": st.sampled_from([100, 300]),
            "partial_interval_ms": st.sampled_from([100, 500]),
        }
    ),
    failing=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_whatever_happens_every_utterance_gets_one_final(
    parts: list[tuple[bool, int]], chunk: int, seed: int, options: dict[str, object], failing: float
) -> None:
    """Any audio, framing, decode times, order of results, failures and client commands."""
    chance = random.Random(seed)

    def answer(job: DecodeJob) -> Hypothesis | DecodeFailed:
        if chance.random() < failing:
            return DecodeFailed("on purpose")
        hypothesis = read(job)
        if chance.random() < 0.2:
            tokens = (chance.randrange(1000), *hypothesis.tokens)
            hypothesis = Hypothesis(tokens=tokens, pieces=tuple(f" w{token}" for token in tokens))
        return hypothesis

    simulation = Simulation(latency=lambda job: chance.choice([0.0, 0.05, 0.4, 3.0]), answer=answer, slots=3)
    session = simulation.add(make_session(SessionOptions(**options)))  # type: ignore[arg-type]
    for number, (voiced, centiseconds) in enumerate(parts):
        audio = speech(centiseconds / 100, number) if voiced else silence(centiseconds / 100)
        simulation.stream(session, audio, chunk, paced=chance.random() < 0.8)
        if chance.random() < 0.3:
            simulation.deliver(session, session.finalize(simulation.now))
        if chance.random() < 0.2:
            session.configure(0.0, endpoint_ms=chance.choice([None, 100, 700]))
    simulation.stop(session)

    events = [event for _, event in simulation.events[session.key]]
    check_invariants(events)
    started = [event.utterance for event in events if isinstance(event, SpeechStarted)]
    assert started == [event.utterance for event in events if isinstance(event, SpeechEnded)]
    assert started == [event.utterance for event in events if isinstance(event, Final)]
    assert isinstance(events[-1], Done)
    assert session.done
    assert not session.pending
    assert session.demand() is None


def test_a_longer_pre_roll_in_mid_stream_claims_only_audio_that_is_kept() -> None:
    session = make_session(SessionOptions(pre_roll_ms=0, first_partial_ms=100))
    _receive(session, silence(5))
    kept_s = session.held_s
    session.configure(0.0, pre_roll_ms=2000)
    _receive(session, speech(1))
    job = _job(session, 1)
    assert 1 <= len(job.audio) / SAMPLE_RATE <= 1 + kept_s
    session.complete(1, read(job), 0.0)
    # The next utterance has all of it.
    _receive(session, silence(3))
    session.complete(2, read(_job(session, 2)), 0.0)
    _receive(session, speech(1))
    assert len(_job(session, 3).audio) / SAMPLE_RATE >= 2 + 1


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("pre_roll_ms"), st.integers(0, 2000)),
            st.tuples(st.just("pause_ms"), st.integers(60, 1000)),
            st.tuples(st.just("silence"), st.integers(10, 3000)),
            st.tuples(st.just("speech"), st.integers(10, 2000)),
            st.tuples(st.just("finalize"), st.just(0)),
        ),
        max_size=25,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_look_back_is_set_every_job_can_be_made(steps: list[tuple[str, int]]) -> None:
    session = make_session(SessionOptions(pre_roll_ms=0, first_partial_ms=100))
    for number, (what, value) in enumerate(steps, 1):
        if what == "finalize":
            session.finalize(0.0)
        elif what in ("speech", "silence"):
            _receive(session, (speech if what == "speech" else silence)(value / 1000))
        else:
            session.configure(0.0, **{what: value})
        if session.demand() is not None:
            session.complete(number, read(_job(session, number)), 0.0)


@pytest.mark.parametrize("end", ["finalize", "clear"])
def test_a_stray_byte_at_the_end_of_a_buffer_does_not_shift_the_next_one(end: str) -> None:
    session = make_session(SessionOptions(vad_threshold=0.5))
    session.receive(silence(0.5).tobytes() + b"x", 0.0)
    warnings = [event for event in getattr(session, end)(0.0) if isinstance(event, SessionWarning)]
    assert [warning.code for warning in warnings] == ["audio_incomplete"]
    assert _kinds(_receive(session, speech(0.4)))[:1] == [SpeechStarted]
    np.testing.assert_array_equal(_job(session, 1).audio[-3000:], speech(0.4)[-3000:])
    # It is reported once.
    session.receive(b"y", 1.0)
    assert not [event for event in session.finalize(1.0) if isinstance(event, SessionWarning)]
