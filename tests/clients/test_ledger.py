"""What is kept and sent again over sessions that break: no word lost, none twice."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.events import (
    AudioDropped,
    Done,
    Final,
    Finalized,
    Partial,
    Pong,
    ServerEvent,
    ServerWarning,
    SpeechEnded,
    SpeechStarted,
    Word,
)
from clients.ledger import PIECE_MS, AudioLedger, Control, Ping

RATE = 1_000
OPTIONS = {"pre_roll_ms": 300, "onset_ms": 96, "max_utterance_s": 30}


def seconds(length: float, value: int = 1, channels: int = 1) -> bytes:
    return np.full(round(length * RATE) * channels, value, np.int16).tobytes()


def drain(ledger: AudioLedger) -> bytes:
    """Send all there is; returns the audio, answers no ping."""
    audio = b""
    while (message := ledger.next_message()) is not None:
        if isinstance(message, bytes):
            audio += message
    return audio


def started(utterance: int, time_ms: int, channel: int = 0) -> SpeechStarted:
    return SpeechStarted(utterance=utterance, channel=channel, time_ms=time_ms)


def final(utterance: int, start_ms: int, time_ms: int, channel: int = 0, text: str = "word") -> Final:
    return Final(utterance=utterance, channel=channel, text=text, start_ms=start_ms, time_ms=time_ms)


def test_a_new_session_begins_where_the_last_final_ended() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(3, 1) + seconds(2, 2))
    assert drain(ledger) == seconds(3, 1) + seconds(2, 2)
    ledger.observe(started(1, 500))
    assert ledger.observe(final(1, 500, 3000)) == [final(1, 500, 3000)]

    reconnected = ledger.begin_session(OPTIONS)

    assert (reconnected.resent_ms, reconnected.lost_ms) == (2000, 0)
    assert drain(ledger) == seconds(2, 2)


def test_times_and_numbers_run_on_in_the_new_session() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(5))
    drain(ledger)
    ledger.observe(final(1, 0, 1000))
    ledger.observe(final(2, 1500, 3000))
    ledger.begin_session(OPTIONS)
    drain(ledger)
    words = (Word(text="so", start_ms=200, end_ms=300),)

    assert ledger.observe(started(1, 250)) == [started(3, 3250)]
    partial = Partial(utterance=1, revision=1, stable="", tentative="so", start_ms=250, time_ms=900)
    (told,) = ledger.observe(partial)
    assert isinstance(told, Partial)
    assert (told.utterance, told.start_ms, told.time_ms) == (3, 3250, 3900)
    (told_final,) = ledger.observe(Final(utterance=1, text="so", start_ms=250, time_ms=1500, words=words))
    assert isinstance(told_final, Final)
    assert told_final.words == (Word(text="so", start_ms=3200, end_ms=3300),)
    assert ledger.observe(SpeechEnded(utterance=1, start_ms=250, time_ms=1500, reason="endpoint")) == [
        SpeechEnded(utterance=3, start_ms=3250, time_ms=4500, reason="endpoint")
    ]
    assert ledger.observe(ServerWarning(code="x", message="y", utterance=1)) == [
        ServerWarning(code="x", message="y", utterance=3)
    ]
    ledger.stop()
    drain(ledger)
    assert ledger.observe(Done(audio_ms=2000)) == [Done(audio_ms=5000)]


def test_an_utterance_begun_but_not_final_is_heard_again_under_its_number() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(10))
    drain(ledger)
    ledger.observe(final(1, 0, 2000))
    ledger.observe(started(2, 4000))
    ledger.observe(Pong(id=10 * RATE))

    # Speech may have begun as much earlier as pre-roll, onset and some slack allow.
    assert ledger.begin_session(OPTIONS).resent_ms == 10_000 - 4000 + 300 + 2 * 96 + 500
    assert ledger.observe(started(1, 992)) == [started(2, 4000)]


def test_room_is_made_as_soon_as_audio_is_settled() -> None:
    ledger = AudioLedger(RATE, keep_s=60)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(60))
    drain(ledger)
    assert ledger.full
    ledger.observe(Pong(id=60 * RATE))
    assert not ledger.full


def test_silence_that_was_heard_is_not_sent_again() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    for _ in range(100):
        ledger.append(seconds(1))
        drain(ledger)
    ledger.observe(Pong(id=99 * RATE))

    assert ledger.settled_ms == 99_000 - 992
    assert ledger.begin_session(OPTIONS).resent_ms == 1992


def test_pings_follow_the_audio_they_ask_about_and_pongs_stay_inside() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(2.5))
    messages = []
    while (message := ledger.next_message()) is not None:
        messages.append(message)
    sent = 0
    for message in messages:
        if isinstance(message, bytes):
            sent += len(message) // 2
        else:
            assert message == Ping(sent)
    assert [message.id for message in messages if isinstance(message, Ping)] == [RATE, 2 * RATE]
    assert ledger.observe(Pong(id=RATE)) == []
    assert ledger.observe(Pong(id="someone else's")) == []


def test_a_final_that_the_server_cut_short_to_restart_is_made_again() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(4))
    drain(ledger)
    ledger.observe(started(1, 1000))
    ledger.observe(SpeechEnded(utterance=1, start_ms=1000, time_ms=4000, reason="stop"))
    assert ledger.observe(final(1, 1000, 4000, text="half a wo")) == []

    assert ledger.begin_session(OPTIONS).resent_ms == 4000
    assert ledger.give_up() == []


def test_without_a_new_session_the_cut_final_is_what_there_is() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(4))
    drain(ledger)
    ledger.observe(started(1, 1000))
    ledger.observe(SpeechEnded(utterance=1, start_ms=1000, time_ms=4000, reason="stop"))
    ledger.observe(final(1, 1000, 4000, text="half a wo"))

    assert ledger.give_up() == [final(1, 1000, 4000, text="half a wo")]


def test_the_last_final_is_good_once_the_server_says_that_all_is_done() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(4))
    ledger.stop()
    drain(ledger)
    ledger.observe(SpeechEnded(utterance=1, start_ms=1000, time_ms=4000, reason="stop"))

    assert ledger.observe(final(1, 1000, 4000)) == []
    assert ledger.observe(Done(audio_ms=4000)) == [final(1, 1000, 4000), Done(audio_ms=4000)]


def test_controls_come_after_the_audio_before_them_and_again_in_a_new_session() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(0.1, 1))
    ledger.finalize()
    ledger.append(seconds(0.1, 2))
    ledger.stop()
    expected = [seconds(0.1, 1), Control.FINALIZE, seconds(0.1, 2), Control.STOP, None]

    assert [ledger.next_message() for _ in expected] == expected
    ledger.begin_session(OPTIONS)
    assert [ledger.next_message() for _ in expected] == expected


def test_an_answered_finalize_is_not_asked_again() -> None:
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(1, 1))
    ledger.finalize()
    ledger.finalize()
    drain(ledger)
    assert ledger.observe(Finalized(time_ms=1000)) == [Finalized(time_ms=1000)]
    ledger.append(seconds(0.1, 2))

    ledger.begin_session(OPTIONS)

    assert ledger.next_message() == seconds(0.1, 2)
    assert ledger.next_message() is None


def test_what_one_channel_has_finals_for_is_silence_beside_the_other() -> None:
    ledger = AudioLedger(RATE, channels=2, split=True)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(2, 7, channels=2))
    drain(ledger)
    ledger.observe(started(1, 0, channel=0))
    ledger.observe(started(2, 0, channel=1))
    ledger.observe(final(2, 0, 1500, channel=1))

    ledger.begin_session(OPTIONS)

    sent = np.frombuffer(drain(ledger), np.int16).reshape(-1, 2)
    assert (sent[:, 0] == 7).all()
    assert (sent[: int(1.5 * RATE), 1] == 0).all()
    assert (sent[int(1.5 * RATE) :, 1] == 7).all()


def test_an_outage_longer_than_what_is_kept_loses_the_oldest_and_says_so() -> None:
    ledger = AudioLedger(RATE, keep_s=60)
    ledger.begin_session(OPTIONS)
    ledger.append(seconds(10))
    drain(ledger)
    ledger.observe(final(1, 0, 10_000))
    for _ in range(90):
        ledger.append(seconds(1))
        assert ledger.kept_s <= 60

    reconnected = ledger.begin_session(OPTIONS)

    assert (reconnected.resent_ms, reconnected.lost_ms) == (0, 30_000)
    assert len(drain(ledger)) == 60 * RATE * 2
    assert ledger.observe(started(1, 1000)) == [started(2, 41_000)]
    assert ledger.begin_session(OPTIONS).lost_ms == 0


def test_audio_the_server_is_too_slow_for_is_left_out_and_times_stay_right() -> None:
    ledger = AudioLedger(RATE, keep_s=60)
    ledger.begin_session({})
    ledger.append(seconds(0.1))
    assert len(ledger.next_message() or b"") == RATE // 10 * 2  # type: ignore[arg-type]
    for _ in range(100):
        ledger.append(seconds(1))
    assert ledger.take_gap() is None
    ledger.next_message()

    assert ledger.take_gap() == AudioDropped(start_ms=100, end_ms=40_100)
    assert ledger.take_gap() is None
    assert ledger.observe(started(1, 50)) == [started(1, 50)]
    assert ledger.observe(started(2, 150)) == [started(2, 40_150)]


def test_what_is_kept_is_always_more_than_the_longest_utterance() -> None:
    ledger = AudioLedger(RATE, keep_s=60)
    ledger.begin_session({"max_utterance_s": 600})
    ledger.append(seconds(700))
    assert not ledger.full
    ledger.append(seconds(500))
    assert ledger.full


@dataclass
class FakeSession:
    """Hears as a server does: each run of equal values above 0 is an utterance, which ends 0.2 s after it. It tells
    the start when it has heard 150 ms of it."""

    heard: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    told: list[ServerEvent] = field(default_factory=list)
    _announced: int = 0
    _final: int = 0

    def take(self, message: bytes | Ping | Control) -> None:
        if isinstance(message, bytes):
            self.heard = np.concatenate([self.heard, np.frombuffer(message, np.int16)])
            self._segment()
        elif isinstance(message, Ping):
            self.told.append(Pong(id=message.id))
        elif message is Control.STOP:
            self._segment(stopping=True)
            self.told.append(Done(audio_ms=len(self.heard) * 1000 // RATE))

    def _segment(self, stopping: bool = False) -> None:
        edges = np.flatnonzero(np.diff(self.heard, prepend=0, append=0))
        runs = [(a, b) for a, b in itertools.pairwise(edges) if self.heard[a] > 0]
        for number, (a, b) in enumerate(runs, 1):
            if number > self._announced and (b - a >= 0.15 * RATE or stopping):
                self._announced = number
                self.told.append(started(number, int(a) * 1000 // RATE))
            ended = len(self.heard) - b >= RATE // 5 or stopping
            if number > self._final and number <= self._announced and ended:
                self._final = number
                start, end = int(a) * 1000 // RATE, int(b) * 1000 // RATE
                self.told.append(final(number, start, end, text=str(self.heard[a])))


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
    round is: tenths said, share that is sent, share of the answers that arrive, whether the connection breaks."""
    pieces, spoken = [], []
    at_ms = 0
    for value, (speech, silence) in enumerate(utterances, 1):
        pieces += [seconds(silence / 10, 0), seconds(speech / 10, value)]
        at_ms += silence * 100
        spoken.append((str(value), at_ms, at_ms + speech * 100))
        at_ms += speech * 100
    audio = b"".join(pieces) + seconds(0.3, 0)
    ledger = AudioLedger(RATE)
    ledger.begin_session(OPTIONS)
    session = FakeSession()
    finals: list[Final] = []
    said = 0

    def hear(count: int) -> None:
        for event in session.told[:count]:
            finals.extend(told for told in ledger.observe(event) if isinstance(told, Final))
        del session.told[:count]

    def send(share: float) -> None:
        messages = iter(ledger.next_message, None)
        for _ in range(round(share * ledger.unsent_s * 1000 / PIECE_MS)):
            session.take(next(messages))

    for tenths, sent, heard, breaks in rounds:
        ledger.append(audio[said : said + tenths * RATE // 5])
        said = min(len(audio), said + tenths * RATE // 5)
        send(sent)
        hear(round(heard * len(session.told)))
        if breaks:
            session = FakeSession()
            ledger.begin_session(OPTIONS)
    ledger.append(audio[said:])
    ledger.stop()
    while (message := ledger.next_message()) is not None:
        session.take(message)
    hear(len(session.told))

    assert [told.text for told in finals] == [text for text, _, _ in spoken]
    assert [told.utterance for told in finals] == list(range(1, len(spoken) + 1))
    for told, (_, start_ms, end_ms) in zip(finals, spoken, strict=True):
        assert told.start_ms == pytest.approx(start_ms, abs=2)
        assert told.time_ms == pytest.approx(end_ms, abs=2)
    assert ledger.settled_ms == ledger.end_ms == len(audio) * 1000 // (2 * RATE)
