"""The final is decoded ahead of time, sooner while the recognizer is idle, and is cancelled if speech goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streaming_asr.core.events import Event, Final, Finalized, Partial
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, DecodeJob, Kind
from streaming_asr.core.session import Session
from tests.support.fakes import CAPABILITIES, Simulation, make_session, read, silence, speech

STEP_S = 0.02
ABORTABLE = replace(CAPABILITIES, abortable=True)


def _live(simulation: Simulation, audio: dict[Session, Audio]) -> None:
    """Each session receives its audio at real time, from now on."""
    began, step = simulation.now, round(STEP_S * SAMPLE_RATE)
    for start in range(0, max(map(len, audio.values())), step):
        simulation.run_until(began + (start + step) / SAMPLE_RATE)
        for session, samples in audio.items():
            if start < len(samples):
                simulation.deliver(session, session.receive(samples[start : start + step].tobytes(), simulation.now))


def _finalize(simulation: Simulation, session: Session) -> None:
    simulation.deliver(session, session.finalize(simulation.now))


def _speculative(simulation: Simulation, session: Session) -> list[float]:
    """When finals of a session were begun ahead of time."""
    own = f"{session.key}."
    jobs = simulation.jobs
    return [time for time, job in jobs if job.kind is Kind.SPECULATIVE and job.utterance.startswith(own)]


def _crowd(simulation: Simulation, count: int) -> dict[Session, Audio]:
    """Sessions whose partials keep the recognizer busy."""
    sessions = [simulation.add(make_session(key=f"crowd{number}")) for number in range(count)]
    return {session: speech(4.0, seed=number) for number, session in enumerate(sessions)}


def _words(seconds: float, gap_s: float, seed: int = 0) -> Audio:
    """Words of 0.4 s, with gaps between them."""
    count = round(seconds / (0.4 + gap_s))
    parts = [part for number in range(count) for part in (speech(0.4, seed + number), silence(gap_s))]
    return np.concatenate(parts)


def test_while_the_recognizer_is_idle_it_begins_at_a_short_pause() -> None:
    simulation = Simulation()
    session = simulation.add(make_session())
    _live(simulation, {session: np.concatenate([speech(1.0), silence(0.3)])})
    assert _speculative(simulation, session) == [pytest.approx(1.1)]


def test_a_session_s_own_partial_does_not_keep_it_waiting() -> None:
    simulation = Simulation(latency=lambda job: 0.4)
    session = simulation.add(make_session(SessionOptions(first_partial_ms=900)))
    _live(simulation, {session: np.concatenate([speech(1.0), silence(0.3)])})
    assert [job.kind for _, job in simulation.jobs] == [Kind.PARTIAL, Kind.SPECULATIVE]
    assert _speculative(simulation, session) == [pytest.approx(1.1)]


def test_under_load_it_waits_for_a_pause() -> None:
    simulation = Simulation(latency=lambda job: 0.25)
    session = simulation.add(make_session(SessionOptions(partials=False)))
    _live(simulation, {session: np.concatenate([speech(1.0), silence(0.4)]), **_crowd(simulation, 8)})
    (began,) = _speculative(simulation, session)
    assert 1.2 <= began <= 1.2 + 0.25


def test_for_a_client_that_has_finalized_it_begins_at_a_short_pause_even_under_load() -> None:
    simulation = Simulation(latency=lambda job: 0.01)
    session = simulation.add(make_session(SessionOptions(partials=False)))
    _live(simulation, {session: speech(0.5)})
    _finalize(simulation, session)
    simulation.latency = lambda job: 0.25
    began = simulation.now
    _live(simulation, {session: np.concatenate([speech(1.0), silence(0.4)]), **_crowd(simulation, 8)})
    (early,) = _speculative(simulation, session)
    assert 1.1 <= early - began <= 1.1 + 0.25, "it waits for a slot, not for the pause"


def test_a_finalize_0_2_s_after_the_speech_finds_its_final_ready() -> None:
    simulation = Simulation(latency=lambda job: 0.08)
    session = simulation.add(make_session())
    _live(simulation, {session: np.concatenate([speech(1.0), silence(0.2)])})
    asked = simulation.now
    _finalize(simulation, session)
    assert [time for time, event in simulation.events[session.key] if isinstance(event, Final)] == [asked]


@pytest.mark.parametrize("silent_ms", [0, 60, 90, 110, 400])
def test_an_immediate_finalize_has_all_that_was_said(silent_ms: int) -> None:
    """Also the samples that do not fill a frame of the voice detector."""
    session = make_session(SessionOptions(partials=False, pre_roll_ms=0, endpoint_ms=None))
    said = speech(1.007)
    session.receive(np.concatenate([said, silence(silent_ms / 1000)]).tobytes(), 0.0)
    session.finalize(0.0)
    demand = session.demand()
    assert demand is not None
    job = demand.take(1, 0.0)
    assert job is not None
    np.testing.assert_array_equal(job.audio[: len(said)], said)
    assert [type(event) for event in session.complete(1, read(job), 0.0)] == [Final, Finalized]


def _resumed(capabilities: object) -> tuple[Session, DecodeJob]:
    """A session whose speech went on while its final was decoded ahead of time."""
    session = make_session(SessionOptions(first_partial_ms=60_000), capabilities=capabilities)  # type: ignore[arg-type]
    session.receive(np.concatenate([speech(1.0), silence(0.12)]).tobytes(), 0.0)
    demand = session.demand()
    assert demand is not None
    job = demand.take(1, 0.0)
    assert job is not None
    assert job.kind is Kind.SPECULATIVE
    session.receive(speech(0.1).tobytes(), 0.0)
    return session, job


def test_when_speech_goes_on_it_is_cancelled_where_the_recognizer_can() -> None:
    session, job = _resumed(ABORTABLE)
    assert session.take_superseded() == [1]
    assert session.complete(1, read(job), 0.0) == []


def test_when_speech_goes_on_it_is_a_partial_where_the_recognizer_runs_on() -> None:
    session, job = _resumed(CAPABILITIES)
    assert session.take_superseded() == []
    (shown,) = session.complete(1, read(job), 0.0)
    assert isinstance(shown, Partial)
    assert not shown.speculative
    text, words = shown.stable + shown.tentative, read(job).text
    assert text == words[: words.rindex(" ")], "the last word may not be whole"


def test_short_gaps_between_words_make_no_more_decodes_under_load() -> None:
    def decodes(short_pause_ms: int) -> int:
        simulation = Simulation(latency=lambda job: 0.2)
        options = SessionOptions(short_pause_ms=short_pause_ms)
        sessions = [simulation.add(make_session(options, key=f"s{number}")) for number in range(10)]
        audio = [np.roll(_words(20.0, gap_s=0.14, seed=100 * number), 1000 * number) for number in range(10)]
        _live(simulation, dict(zip(sessions, audio, strict=True)))
        return len(simulation.jobs)

    assert decodes(96) <= decodes(200)


def test_gaps_between_words_cost_a_session_none_of_its_partials_under_load() -> None:
    simulation = Simulation(latency=lambda job: 0.2)
    crowd = {session: speech(20.0, seed=number) for number, session in enumerate(_crowd(simulation, 9))}
    session = simulation.add(make_session())
    _live(simulation, {session: _words(20.0, gap_s=0.14), **crowd})

    def partials(one: Session) -> int:
        return sum(job.kind is Kind.PARTIAL and job.utterance.startswith(f"{one.key}.") for _, job in simulation.jobs)

    assert partials(session) >= 0.8 * min(partials(other) for other in crowd)


def test_the_final_is_the_same_whether_it_was_decoded_early_or_late() -> None:
    def final(latency_s: float, crowd: int) -> Event:
        simulation = Simulation(latency=lambda job: latency_s)
        session = simulation.add(make_session(SessionOptions(partials=False)))
        spoken = np.concatenate([speech(1.0), silence(0.15), speech(0.5, seed=1), silence(0.6)])
        _live(simulation, {session: spoken, **_crowd(simulation, crowd)})
        simulation.run_until(simulation.now + 5)
        return simulation.finals(session)[0]

    assert final(0.05, 0) == final(0.3, 8)
