"""Which session decodes next, and when a new one is accepted: many sessions and a slow recognizer, simulated."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streaming_asr.core.channel import Demand
from streaming_asr.core.events import Final, Partial, SpeechEnded
from streaming_asr.core.options import ChannelMode, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Kind
from streaming_asr.core.scheduler import AHEAD_S, SPARE_REQUESTS, Busy, Limits, PartialLimit, Scheduler
from streaming_asr.core.session import Session
from streaming_asr.core.utterance import Utterance
from tests.support.fakes import Simulation, make_session, silence, speech


def _live(simulation: Simulation, sessions: list[Session], seconds: float, step_s: float = 0.1) -> None:
    """All sessions speak at once, at real time."""
    for step in range(round(seconds / step_s)):
        simulation.run_until(simulation.now + step_s)
        for number, session in enumerate(sessions):
            audio = speech(step_s, seed=step * 1000 + number)
            simulation.deliver(session, session.receive(audio.tobytes(), simulation.now))


def _sessions(simulation: Simulation, count: int, **options: object) -> list[Session]:
    made = [make_session(SessionOptions(**options), key=f"s{number}") for number in range(count)]  # type: ignore[arg-type]
    return [simulation.add(session) for session in made]


def test_finals_go_before_partials() -> None:
    """A final waits for no more than the decodes that were running when its utterance ended."""
    simulation = Simulation(latency=lambda job: 0.4, slots=2)
    sessions = _sessions(simulation, 12)
    _live(simulation, sessions, 5.0)
    ended = simulation.now
    simulation.deliver(sessions[3], sessions[3].finalize(ended))
    simulation.run_until(ended + 0.4)
    began = next(time for time, job in simulation.jobs if job.kind is Kind.FINAL)
    assert began - ended <= 0.4


def test_partials_of_many_sessions_are_spread_evenly() -> None:
    simulation = Simulation(latency=lambda job: 0.2, slots=2)
    sessions = _sessions(simulation, 50)
    _live(simulation, sessions, 25.0)
    counts = [
        sum(job.kind is Kind.PARTIAL and job.utterance.startswith(f"{session.key}.") for _, job in simulation.jobs)
        for session in sessions
    ]
    assert sum(counts) == pytest.approx(2 * 25.0 / 0.2, rel=0.05), "no slot was idle"
    assert max(counts) - min(counts) <= 2


def test_a_job_is_made_of_the_audio_of_its_moment() -> None:
    simulation = Simulation(latency=lambda job: 1.0, slots=1)
    sessions = _sessions(simulation, 5)
    _live(simulation, sessions, 12.0)
    for began, job in simulation.jobs:
        assert len(job.audio) / SAMPLE_RATE == pytest.approx(began, abs=0.11)


def test_a_lone_session_gets_its_partials_at_its_interval() -> None:
    simulation = Simulation(latency=lambda job: 0.1)
    (session,) = _sessions(simulation, 1, first_partial_ms=300, partial_interval_ms=500)
    _live(simulation, [session], 10.0)
    began = [time for time, job in simulation.jobs]
    assert began[0] == pytest.approx(0.3, abs=0.11)
    assert statistics.median(b - a for a, b in pairwise(began)) == pytest.approx(0.5, abs=0.01)


def _beside_an_upload(latency_s: float) -> tuple[Simulation, Session, Session, Audio]:
    """A simulation, a live session, one that has been sent 40 sentences at once, and the sentence."""
    simulation = Simulation(latency=lambda job: latency_s, slots=1)
    live, upload = _sessions(simulation, 2)
    sentence = np.concatenate([speech(1.0), silence(0.6)])
    simulation.stream(upload, np.tile(sentence, 40), chunk=10**9, paced=False)
    return simulation, live, upload, sentence


def test_an_upload_delays_no_live_final_and_is_not_starved() -> None:
    simulation, live, upload, sentence = _beside_an_upload(latency_s=0.3)
    for _ in range(15):
        simulation.stream(live, sentence)
    ended = {e.utterance: time for time, e in simulation.events[live.key] if isinstance(e, SpeechEnded)}
    final = {e.utterance: time for time, e in simulation.events[live.key] if isinstance(e, Final)}
    assert statistics.median(final[number] - ended[number] for number in final) <= 0.31
    assert len(simulation.finals(upload)) >= 10
    assert sum(isinstance(e, Partial) for _, e in simulation.events[live.key]) >= 10


def test_what_an_upload_has_waited_refuses_nobody_even_once_it_is_sent_no_faster_than_speech() -> None:
    simulation, live, upload, sentence = _beside_an_upload(latency_s=1.0)
    for _ in range(12):
        # The server reads no more of it than speech takes, because it holds enough.
        simulation.stream(live, sentence)
        simulation.deliver(upload, upload.receive(silence(0.1).tobytes(), simulation.now))
    assert upload.live(simulation.now)
    simulation.run_until(simulation.now + 5)
    simulation.add(make_session(key="next"))


def _at_once(simulation: Simulation, session: Session, latency_s: float, until: float) -> int:
    """How many decodes of a session ran at once, at most, among those that began before `until`."""
    began = [time for time, job in simulation.jobs if job.utterance.startswith(f"{session.key}.") and time < until]
    return max((sum(time - latency_s < other <= time for other in began) for time in began), default=0)


def test_an_upload_takes_half_the_slots_while_somebody_speaks_and_then_all() -> None:
    """A decode that runs can't be interrupted, so a slot that an upload has is not there for a live final."""
    simulation = Simulation(latency=lambda job: 1.0, slots=4)
    live, upload = _sessions(simulation, 2)
    _live(simulation, [live], 0.5)
    sentence = np.concatenate([speech(1.0), silence(0.6)])
    simulation.stream(upload, np.tile(sentence, 30), chunk=10**9, paced=False)
    _live(simulation, [live], 5.0)
    spoken = simulation.now
    assert _at_once(simulation, upload, 1.0, spoken) == 2
    simulation.stream(live, silence(1.5))
    simulation.run_until(simulation.now + 5)
    assert _at_once(simulation, upload, 1.0, 1e9) == 4
    simulation.stop(upload)
    assert len(simulation.finals(upload)) == 30


def test_uploads_take_no_partial_from_those_who_speak_and_are_not_starved() -> None:
    def decodes(uploads: int) -> tuple[int, list[int]]:
        """Partials of live sessions that want more than there are slots, and finals of each upload."""
        simulation = Simulation(latency=lambda job: 0.4, slots=2)
        live = _sessions(simulation, 6)
        sent = [simulation.add(make_session(key=f"upload{number}")) for number in range(uploads)]
        for session in sent:
            audio = np.tile(np.concatenate([speech(3.0), silence(0.6)]), 10)
            simulation.deliver(session, session.receive(audio.tobytes(), 0.0))
        _live(simulation, live, 29.0)
        partials = [job for _, job in simulation.jobs if job.kind is Kind.PARTIAL]
        assert all(job.utterance.startswith("s") for job in partials), "nobody watches the text of an upload grow"
        return len(partials), [len(simulation.finals(session)) for session in sent]

    alone, _ = decodes(0)
    beside, finals = decodes(3)
    assert beside >= alone - 3 * (29 // AHEAD_S + 1)
    assert min(finals) >= 29 // AHEAD_S


def test_an_upload_does_not_make_the_server_look_busy() -> None:
    simulation = Simulation(latency=lambda job: 0.5, slots=1)
    (upload,) = _sessions(simulation, 1)
    simulation.stream(upload, np.tile(np.concatenate([speech(1.0), silence(0.6)]), 60), chunk=10**9, paced=False)
    simulation.run_until(20.0)
    assert simulation.scheduler.lag_s(simulation.now) == 0.0
    _sessions(simulation, 1)


def test_new_sessions_are_refused_while_live_finals_wait_too_long() -> None:
    simulation = Simulation(latency=lambda job: 3.0, slots=1)
    sessions = _sessions(simulation, 8, partials=False)
    for _ in range(4):
        _live(simulation, sessions, 1.0)
        for session in sessions:
            simulation.deliver(session, session.finalize(simulation.now))
    simulation.run_until(simulation.now + 20)
    with pytest.raises(Busy, match="behind by"):
        simulation.scheduler.admit(simulation.now)
    simulation.finish()
    simulation.run_until(simulation.now + 60)
    simulation.scheduler.admit(simulation.now)


def test_sessions_are_counted() -> None:
    scheduler = Scheduler(2, Limits(max_sessions=2))
    first, second, third = (make_session(key=key) for key in "abc")
    scheduler.add(first, 0.0)
    scheduler.add(second, 0.0)
    with pytest.raises(Busy, match="all 2 sessions"):
        scheduler.add(third, 0.0)
    scheduler.remove(first)
    scheduler.add(third, 0.0)
    assert scheduler.sessions == 2


def test_a_session_that_leaves_names_its_jobs_and_frees_their_slots() -> None:
    scheduler = Scheduler(1)
    session = make_session()
    scheduler.add(session, 0.0)
    session.receive(speech(1.0).tobytes(), 1.0)
    scheduler.update(session, 1.0)
    chosen = scheduler.next_job(1.0)
    assert chosen is not None
    assert scheduler.next_job(1.0) is None
    assert scheduler.remove(session) == [chosen.job.id]
    assert scheduler.finished(chosen.job.id, 2.0) is None
    assert scheduler.running == 0


def test_slow_partials_run_fewer_at_once_and_quick_ones_more() -> None:
    limit = PartialLimit(64, target_s=1.0)
    assert limit.limit == 48, "a quarter is left for finals"
    now = 0.0
    for _ in range(20):
        now += 3.0
        limit.observe(2.5, now)
    assert limit.limit == 1
    for _ in range(3_000):
        now += 0.1
        limit.observe(0.5, now)
    assert limit.limit == 48


def test_one_burst_of_slow_partials_halves_the_limit_once() -> None:
    limit = PartialLimit(64)
    for _ in range(40):
        limit.observe(1.5, 10.0)
    assert limit.limit == 24


def test_a_recognizer_with_one_slot_still_decodes_partials() -> None:
    assert PartialLimit(1).limit == 1


def test_sessions_are_let_in_again_soon_after_an_overload() -> None:
    """Though finals of half a minute ago waited long."""
    slow = True
    simulation = Simulation(slots=1, latency=lambda job: 3.0 if slow else 0.01)
    sessions = [simulation.add(make_session(SessionOptions(partials=False), key=f"s{n}")) for n in range(8)]

    def speak() -> None:
        for session in sessions:
            simulation.stream(session, np.concatenate([speech(0.5), silence(0.6)]), paced=False)
        simulation.finish()

    speak()
    with pytest.raises(Busy, match="behind by"):
        simulation.scheduler.admit(simulation.now)
    slow = False
    for _ in range(4):
        speak()
    simulation.scheduler.admit(simulation.now)


def test_choosing_costs_the_same_however_many_sessions_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Demands are looked up when a session receives something and when it is served, not at each choice."""
    asked = 0
    demand = Session.demand

    def counted(session: Session) -> Demand | None:
        nonlocal asked
        asked += 1
        return demand(session)

    def served(sessions: int) -> int:
        nonlocal asked
        simulation = Simulation(slots=1, latency=lambda job: 0.01)
        waiting = [simulation.add(make_session(key=f"s{number}")) for number in range(sessions)]
        for session in waiting:
            simulation.deliver(session, session.receive(speech(1.0).tobytes(), 0.0))
        asked = 0
        simulation.run_until(0.095)
        return asked

    monkeypatch.setattr(Session, "demand", counted)
    assert served(20) == served(200)


def test_a_job_costs_one_look_at_each_utterance_and_one_at_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is made from the demand that was chosen; only what is wanted next is looked up anew."""
    looks = 0
    wants = Utterance.wants

    def counted(*arguments: Any) -> Kind | None:
        nonlocal looks
        looks += 1
        return wants(*arguments)

    scheduler = Scheduler(1)
    session = make_session(SessionOptions(partials=False, channels=2, channel_mode=ChannelMode.SPLIT))
    scheduler.add(session, 0.0)
    audio = np.concatenate([np.concatenate([speech(0.5, seed=seed), silence(0.8)]) for seed in range(10)])
    session.receive(np.repeat(audio, 2).tobytes(), 0.0)
    scheduler.update(session, 0.0)
    monkeypatch.setattr(Utterance, "wants", counted)
    assert scheduler.next_job(0.0) is not None
    assert looks == 20 + 1


def test_outdated_requests_are_removed() -> None:
    simulation = Simulation(slots=1, latency=lambda job: 1000.0)
    first, *others = (simulation.add(make_session(key=f"s{number}")) for number in range(3))
    simulation.deliver(first, first.receive(speech(1.0).tobytes(), 0.0))
    for round_ in range(500):
        for session in others:
            simulation.deliver(session, session.receive(speech(0.5, seed=round_).tobytes(), 0.0))
            simulation.deliver(session, session.receive(silence(0.3).tobytes(), 0.0))
    assert sum(map(len, simulation.scheduler._heaps.values())) <= 2 * 3 + SPARE_REQUESTS + 1


def test_clients_that_finalize_all_the_time_delay_nobody_else_s_finals() -> None:
    simulation = Simulation(latency=lambda job: 0.3, slots=1)
    victim, *others = _sessions(simulation, 8, partials=False)
    for step in range(100):
        _live(simulation, [victim, *others], 0.2)
        for session in others:
            simulation.deliver(session, session.finalize(simulation.now))
        if step % 10 == 9:
            simulation.deliver(victim, victim.finalize(simulation.now))
    simulation.run_until(simulation.now + 3)
    ended = {e.utterance: time for time, e in simulation.events[victim.key] if isinstance(e, SpeechEnded)}
    final = {e.utterance: time for time, e in simulation.events[victim.key] if isinstance(e, Final)}
    assert len(final) >= 9
    # One decode that runs, and the first few of those who finalize.
    assert statistics.median(final[number] - ended[number] for number in final) <= 0.7
    assert all(simulation.finals(session) for session in others), "they are not starved"


def test_finals_that_wait_while_the_caller_is_late_do_not_count_as_the_recognizer_being_behind() -> None:
    """Before, one client that kept the event loop busy had the server refuse everybody else."""
    simulation = Simulation(latency=lambda job: 3.0, slots=1)
    sessions = _sessions(simulation, 8, partials=False)
    for _ in range(4):
        _live(simulation, sessions, 1.0)
        simulation.scheduler.caller_was_late(1.0, simulation.now)
        for session in sessions:
            simulation.deliver(session, session.finalize(simulation.now))
    for _ in range(40):
        simulation.run_until(simulation.now + 0.5)
        simulation.scheduler.caller_was_late(0.5, simulation.now)
    simulation.scheduler.admit(simulation.now)
    simulation.finish()


def test_finals_that_wait_while_the_recognizer_is_started_again_do_not_count_as_its_being_behind() -> None:
    lost = False
    simulation = Simulation(latency=lambda job: 20.0 if lost else 0.1, slots=1)
    scheduler, sessions = simulation.scheduler, _sessions(simulation, 8)
    _live(simulation, sessions, 2.0)
    limit = scheduler.partial_limit.limit
    lost = True
    scheduler.recognizer_lost()
    for session in sessions:
        simulation.deliver(session, session.finalize(simulation.now))
    simulation.run_until(simulation.now + 19)
    assert scheduler.wait_s(simulation.now) == 0.0
    lost = False
    scheduler.recognizer_back(simulation.now)
    simulation.run_until(simulation.now + 5)
    assert all(simulation.finals(session) for session in sessions)
    assert 0 < scheduler.lag_s(simulation.now) < scheduler.limits.final_objective_s
    assert scheduler.partial_limit.limit == limit
    scheduler.admit(simulation.now)


def test_a_recognizer_that_is_behind_after_it_was_started_again_refuses_sessions() -> None:
    simulation = Simulation(latency=lambda job: 1.0, slots=1)
    scheduler, sessions = simulation.scheduler, _sessions(simulation, 8)
    _live(simulation, sessions, 1.0)
    scheduler.recognizer_lost()
    scheduler.recognizer_back(simulation.now)
    for session in sessions:
        simulation.deliver(session, session.finalize(simulation.now))
    simulation.run_until(simulation.now + 8)
    with pytest.raises(Busy, match="behind by"):
        scheduler.admit(simulation.now)
