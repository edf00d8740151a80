"""The load: bounded, smoothed, and the larger of its two shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core.load import SMOOTHING_S, Load
from streaming_asr.core.options import SessionOptions
from tests.support.fakes import Simulation, make_session, speech


def _lasting(load: Load, sessions: int, wait_s: float, seconds: float, start: float = 0.0) -> float:
    for tick in range(int(seconds * 4) + 1):
        load.observe(sessions, wait_s, start + tick / 4)
    return load.value


@pytest.mark.parametrize(
    ("sessions", "wait_s", "expected"),
    [(0, 0.0, 0.0), (25, 0.0, 0.25), (0, 0.1, 0.2), (25, 0.4, 0.8), (100, 0.0, 1.0), (150, 9.0, 1.0)],
)
def test_the_larger_share_is_the_load_and_nothing_exceeds_one(sessions: int, wait_s: float, expected: float) -> None:
    load = Load(max_sessions=100, wait_objective_s=0.5)
    assert _lasting(load, sessions, wait_s, 10 * SMOOTHING_S) == pytest.approx(expected, abs=0.001)


def test_a_change_has_made_63_percent_of_the_way_after_the_time_constant() -> None:
    load = Load(max_sessions=100, wait_objective_s=0.5)
    assert _lasting(load, 100, 0.0, SMOOTHING_S) == pytest.approx(0.632, abs=0.001)


def test_one_burst_of_waits_hardly_moves_it() -> None:
    load = Load(max_sessions=100, wait_objective_s=0.5)
    _lasting(load, 10, 0.0, 100.0)
    assert _lasting(load, 10, 5.0, 1.0, start=100.0) < 0.2


def test_a_server_whose_recognizer_is_being_restarted_is_full() -> None:
    load = Load(max_sessions=100, wait_objective_s=0.5)
    for tick in range(600):
        load.observe_outage(tick / 4)
    assert load.value == pytest.approx(1.0, abs=0.001)


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.floats(0, 1e6), st.floats(-1, 1e4)),
        max_size=50,
    )
)
def test_it_stays_between_0_and_1_whatever_is_observed(observed: list[tuple[int, float, float]]) -> None:
    load = Load(max_sessions=7, wait_objective_s=0.01)
    now = 0.0
    for sessions, wait_s, passed in observed:
        now += passed
        load.observe(sessions, wait_s, now)
        assert 0.0 <= load.value <= 1.0


def test_finals_that_still_wait_count_though_the_recognizer_hangs() -> None:
    """No decode ends, so no wait is over."""
    simulation = Simulation(slots=1, latency=lambda job: 1e6)
    sessions = [simulation.add(make_session(SessionOptions(partials=False), key=f"s{n}")) for n in range(8)]
    for _ in range(10):
        for session in sessions:
            simulation.deliver(session, session.receive(speech(0.1).astype(np.float32).tobytes(), simulation.now))
        simulation.run_until(simulation.now + 0.1)
    for session in sessions:
        simulation.deliver(session, session.finalize(simulation.now))
    assert simulation.scheduler.wait_s(simulation.now + 0.1) == pytest.approx(0.1, abs=0.01)
    assert simulation.scheduler.wait_s(simulation.now + 7.0) == pytest.approx(7.0, abs=0.01)
    assert simulation.scheduler.lag_s(simulation.now + 7.0) == 0.0


def test_waits_do_not_count_once_nobody_is_there() -> None:
    """Before, a server that everybody had left was full for another half a minute."""
    simulation = Simulation(slots=1, latency=lambda job: 2.0)
    sessions = [simulation.add(make_session(SessionOptions(partials=False), key=f"s{n}")) for n in range(8)]
    for session in sessions:
        simulation.stream(session, speech(0.5), paced=False)
        simulation.deliver(session, session.stop(simulation.now))
    simulation.finish()
    assert simulation.scheduler.wait_s(simulation.now) > 2.0
    for session in sessions:
        simulation.scheduler.remove(session)
    assert simulation.scheduler.wait_s(simulation.now) == 0.0
