"""Whether a session counts as live, by how fast its audio comes."""

from __future__ import annotations

import pytest

from streaming_asr.core.options import SessionOptions
from tests.support.fakes import make_session, silence


def _live_over_time(pieces: list[tuple[float, float]], *, head_start: bool = True) -> list[bool]:
    """Whether a session counts as live after each piece.

    Args:
        pieces: (time, seconds of audio that came then).
    """
    session = make_session(head_start=head_start)
    live = []
    for now, seconds in pieces:
        session.receive(silence(seconds).tobytes(), now)
        live.append(session.live(now))
    return live


def test_a_backlog_at_the_start_is_forgotten() -> None:
    live = _live_over_time([(0, 5.0), *((tenth / 10, 0.1) for tenth in range(1, 200))])
    assert not any(live[:90])
    assert all(live[115:])


def test_a_backlog_in_mid_stream_is_forgotten() -> None:
    before = [(tenth / 10, 0.1) for tenth in range(1200)]
    after = [(130 + tenth / 10, 0.1) for tenth in range(200)]
    live = _live_over_time([*before, (130, 10.0), *after])
    assert all(live[:1200])
    assert all(live[-80:])


def test_a_command_sent_at_once_is_live_with_a_head_start_only() -> None:
    assert _live_over_time([(100.0, 1.8)]) == [True]
    live = _live_over_time([(100.0, 1.8), (100.6, 0.0), (100.7, 0.0)], head_start=False)
    assert live == [False, False, True]


def test_a_lead_in_that_comes_at_once_is_live() -> None:
    session = make_session(SessionOptions(lead_in_ms=10_000), head_start=False)
    session.receive(silence(10.0).tobytes(), 0.0)
    session.receive(silence(0.2).tobytes(), 0.0)
    assert session.live(0.0)
    session.receive(silence(2.0).tobytes(), 0.0)
    assert not session.live(0.0)


def test_audio_in_bursts_is_live_without_a_head_start() -> None:
    assert all(_live_over_time([(half / 2, 0.5) for half in range(100)], head_start=False))


def test_a_clock_that_runs_fast_stays_live() -> None:
    assert all(_live_over_time([(tenth / 10, 0.1001) for tenth in range(36_000)]))


@pytest.mark.parametrize("pace", [1.5, 4.0])
def test_audio_that_keeps_coming_faster_than_real_time_is_not_live(pace: float) -> None:
    live = _live_over_time([(tenth / 10, 0.1 * pace) for tenth in range(600)])
    assert not any(live[100:])


def test_the_memory_of_the_pace_has_a_bound() -> None:
    session = make_session()
    for hundredth in range(5000):
        session.receive(silence(0.01).tobytes(), hundredth / 100)
    assert len(session._pace) <= 22
