"""A turn detector decides which pauses end an utterance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.events import EndReason, Event, Partial, SpeechEnded, SpeechStarted
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.session import Session
from streaming_asr.core.turn import Pause
from streaming_asr.core.voice import Detection
from tests.support.fakes import CAPABILITIES, FakeDetector, read, silence, speech


class FixedWaits:
    """Waits as long as it is given, pause by pause."""

    def __init__(self, *waits: float) -> None:
        self._waits = itertools.cycle(waits)
        self.pauses: list[Pause] = []

    def wait_ms(self, pause: Pause) -> Detection[float]:
        yield from ()
        self.pauses.append(replace(pause, audio=pause.audio.copy()))
        return next(self._waits)


def make_session(turns: FixedWaits, options: SessionOptions | None = None) -> Session:
    options = replace(options or SessionOptions(), encoding=Encoding.F32LE)
    return Session("s", options, CAPABILITIES, lambda _: FakeDetector(), make_turn_detector=lambda _: turns)


def _ends(events: Sequence[Event]) -> list[tuple[int, EndReason]]:
    return [(event.end_ms, event.reason) for event in events if isinstance(event, SpeechEnded)]


def _receive(session: Session, *audio: Audio) -> list[Event]:
    return session.receive(np.concatenate(audio).tobytes(), 0.0)


@pytest.mark.parametrize(("wait_ms", "ends_after_ms"), [(0, 220), (300, 300), (900, 900), (10**9, None)])
def test_an_utterance_ends_after_the_silence_that_is_asked_for(wait_ms: float, ends_after_ms: int | None) -> None:
    session = make_session(FixedWaits(wait_ms))
    _receive(session, speech(1))
    ended_after = None
    for waited in range(20, 3000, 20):
        if _ends(_receive(session, silence(0.02))):
            ended_after = waited
            break
    assert ended_after == ends_after_ms


def test_it_is_asked_once_a_pause_with_what_was_said() -> None:
    turns = FixedWaits(1000)
    session = make_session(turns, SessionOptions(first_partial_ms=300, pre_roll_ms=0))
    said = speech(1)
    _receive(session, said)
    demand = session.demand()
    assert demand is not None
    job = demand.take(1, 0.0)
    assert job is not None
    (partial,) = session.complete(1, read(job), 0.0)
    assert isinstance(partial, Partial)
    _receive(session, silence(0.5), speech(0.5, seed=1), silence(0.3))
    first, second = turns.pauses
    assert first.silence_ms == second.silence_ms == 200
    assert first.text == partial.stable + partial.tentative
    assert first.language == "en"
    np.testing.assert_array_equal(first.audio, np.concatenate([said, silence(0.2)]))
    assert len(second.audio) == 2.2 * SAMPLE_RATE


def test_the_wait_of_one_pause_is_not_that_of_the_next() -> None:
    session = make_session(FixedWaits(1500, 300))
    events = _receive(session, speech(1), silence(1), speech(1), silence(0.4))
    assert _ends(events) == [(3000, EndReason.ENDPOINT)]


def test_a_client_that_ends_its_utterances_itself_is_left_alone() -> None:
    turns = FixedWaits(0)
    session = make_session(turns, SessionOptions(endpoint_ms=None))
    assert not _ends(_receive(session, speech(1), silence(3)))
    assert not turns.pauses
    assert [reason for _, reason in _ends(session.finalize(0.0))] == [EndReason.FINALIZE]


def test_finalize_does_not_wait_for_the_turn() -> None:
    session = make_session(FixedWaits(5000))
    _receive(session, speech(1), silence(0.6))
    assert _ends(session.finalize(0.0)) == [(1000, EndReason.FINALIZE)]
    # The next utterance begins with a pause of its own.
    assert not _ends(_receive(session, speech(1), silence(1)))


@dataclass(frozen=True, slots=True)
class _Query:
    network: _Network
    seconds: float


class _Network:
    def answer(self, queries: Sequence[_Query]) -> list[float]:
        return [1000 * query.seconds for query in queries]


class _Asking:
    def __init__(self) -> None:
        self._network = _Network()

    def wait_ms(self, pause: Pause) -> Detection[float]:
        return (yield _Query(self._network, len(pause.audio) / SAMPLE_RATE))


def test_it_may_ask_a_network_and_the_session_goes_on_with_the_answer() -> None:
    options = SessionOptions(encoding=Encoding.F32LE, pre_roll_ms=0)
    session = Session("s", options, CAPABILITIES, lambda _: FakeDetector(), make_turn_detector=lambda _: _Asking())
    receiving = session.receiving(np.concatenate([speech(1), silence(2), speech(1)]).tobytes(), 0.0)
    query = next(receiving)
    assert isinstance(query, _Query)
    with pytest.raises(StopIteration) as end:
        receiving.send(700.0)
    kinds = [type(event) for event in end.value.value]
    assert kinds == [SpeechStarted, SpeechEnded, SpeechStarted]


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=8),
    waits=st.lists(st.integers(0, 1500), min_size=1, max_size=4),
    chunk=st.integers(100, 40_000),
)
def test_events_do_not_depend_on_how_the_stream_is_split(
    parts: list[tuple[bool, int]], waits: list[int], chunk: int
) -> None:
    audio = np.concatenate([(speech if voiced else silence)(tenths / 20) for voiced, tenths in parts])
    whole = make_session(FixedWaits(*waits), SessionOptions(partials=False))
    split = make_session(FixedWaits(*waits), SessionOptions(partials=False))
    events = _receive(whole, audio) + whole.stop(0.0)
    pieces = [_receive(split, audio[start : start + chunk]) for start in range(0, len(audio), chunk)]
    assert [event for piece in pieces for event in piece] + split.stop(0.0) == events
