"""What is kept and sent again over sessions that break: no word lost, none twice. `test_vectors.py` has the rules."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.events import Done, Final, Pong, ServerEvent, SpeechStarted
from clients.ledger import PIECE_MS, AudioLedger, Control, Ping

RATE = 1_000
OPTIONS = {"pre_roll_ms": 300, "onset_ms": 96, "max_utterance_s": 30}


def seconds(length: float, value: int = 1) -> bytes:
    return np.full(round(length * RATE), value, np.int16).tobytes()


def test_pings_follow_the_audio_that_they_count_and_their_answers_stay_inside() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(2.5))
    sent, ids = 0, []
    while (message := ledger.next_message()) is not None:
        if isinstance(message, bytes):
            sent += len(message) // 2
        else:
            assert message == Ping(sent)
            ids.append(sent)
    assert ids == [RATE, 2 * RATE]
    assert ledger.observe(Pong(id=RATE)) == []


@dataclass
class FakeSession:
    """Recognizes as a server does: each run of equal values above 0 is an utterance, which ends 0.2 s after it. It
    reports the start once it has received 150 ms of it."""

    received: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    events: list[ServerEvent] = field(default_factory=list)
    _announced: int = 0
    _final: int = 0

    def take(self, message: bytes | Ping | Control) -> None:
        if isinstance(message, bytes):
            self.received = np.concatenate([self.received, np.frombuffer(message, np.int16)])
            self._segment()
        elif isinstance(message, Ping):
            self.events.append(Pong(id=message.id))
        elif message is Control.STOP:
            self._segment(stopping=True)
            self.events.append(Done(audio_ms=len(self.received) * 1000 // RATE))

    def _segment(self, stopping: bool = False) -> None:
        edges = np.flatnonzero(np.diff(self.received, prepend=0, append=0))
        runs = [(a, b) for a, b in itertools.pairwise(edges) if self.received[a] > 0]
        for number, (a, b) in enumerate(runs, 1):
            if number > self._announced and (b - a >= 0.15 * RATE or stopping):
                self._announced = number
                self.events.append(SpeechStarted(utterance=number, time_ms=int(a) * 1000 // RATE))
            ended = len(self.received) - b >= RATE // 5 or stopping
            if number > self._final and number <= self._announced and ended:
                self._final = number
                start, end = int(a) * 1000 // RATE, int(b) * 1000 // RATE
                text = str(self.received[a])
                self.events.append(Final(utterance=number, text=text, start_ms=start, time_ms=end))


@settings(max_examples=150, deadline=None)
@given(
    utterances=st.lists(st.tuples(st.integers(2, 40), st.integers(3, 30)), min_size=2, max_size=8),
    rounds=st.lists(
        st.tuples(
            st.integers(1, 40), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()
        ),
        max_size=12,
    ),
)
def test_however_connections_break_each_utterance_gets_exactly_one_final(
    utterances: list[tuple[int, int]], rounds: list[tuple[int, float, float, bool]]
) -> None:
    """Utterances and silences are given in tenths of a second; each utterance has samples of its own value. A
    round is: tenths appended, share that is sent, share of the events that arrive, whether the connection breaks."""
    pieces, expected = [], []
    at_ms = 0
    for value, (speech, silence) in enumerate(utterances, 1):
        pieces += [seconds(silence / 10, 0), seconds(speech / 10, value)]
        at_ms += silence * 100
        expected.append((str(value), at_ms, at_ms + speech * 100))
        at_ms += speech * 100
    audio = b"".join(pieces) + seconds(0.3, 0)
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    session = FakeSession()
    finals: list[Final] = []
    appended = 0

    def observe(count: int) -> None:
        for event in session.events[:count]:
            finals.extend(seen for seen in ledger.observe(event) if isinstance(seen, Final))
        del session.events[:count]

    def send(share: float) -> None:
        messages = iter(ledger.next_message, None)
        for _ in range(round(share * ledger.unsent_s * 1000 / PIECE_MS)):
            session.take(next(messages))

    for tenths, sent, arriving, breaks in rounds:
        ledger.append(audio[appended : appended + tenths * RATE // 5])
        appended = min(len(audio), appended + tenths * RATE // 5)
        send(sent)
        observe(round(arriving * len(session.events)))
        if breaks:
            session = FakeSession()
            ledger.begin_session(OPTIONS)
    ledger.append(audio[appended:])
    ledger.stop()
    while (message := ledger.next_message()) is not None:
        session.take(message)
    observe(len(session.events))

    assert [final.text for final in finals] == [text for text, _, _ in expected]
    assert [final.utterance for final in finals] == list(range(1, len(expected) + 1))
    for final, (_, start_ms, end_ms) in zip(finals, expected, strict=True):
        assert final.start_ms == pytest.approx(start_ms, abs=2)
        assert final.time_ms == pytest.approx(end_ms, abs=2)
    assert ledger.settled_ms == ledger.end_ms == len(audio) * 1000 // (2 * RATE)


def test_a_lead_in_is_as_long_as_it_was_announced_though_its_audio_was_discarded_meanwhile() -> None:
    """Else the server would take the first speech after it for a part of it."""
    options = {**OPTIONS, "max_utterance_s": 5, "lead_in_ms": 0}
    samples = np.arange(1, 18_001, dtype=np.int16)
    ledger = AudioLedger(RATE, keep_s=10)
    ledger.begin_session(options)
    ledger.append(samples[:5000].tobytes())
    while ledger.next_message() is not None:
        pass
    ledger.observe(SpeechStarted(utterance=1, channel=0, time_ms=200))
    ledger.observe(Final(utterance=1, channel=0, text="One.", start_ms=200, time_ms=4000, language=None))
    lead_in_ms = ledger.lead_in_ms
    assert lead_in_ms == 4000
    ledger.append(samples[5000:].tobytes())
    ledger.begin_session({**options, "lead_in_ms": lead_in_ms})
    messages = iter(ledger.next_message, None)
    sent = np.frombuffer(b"".join(message for message in messages if isinstance(message, bytes)), np.int16)
    assert not sent[:4000].any()
    assert sent[4000:].tolist() == samples[8000:].tolist()
