"""Whatever options a session changes in mid-stream, no speech is lost."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.options import CHANGEABLE, Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.session import Session
from streaming_asr.core.turn import Pause, TurnDetector, TurnQuestion
from tests.support.fakes import CAPABILITIES, FRAME, AskingDetector, Simulation, check_invariants, silence, speech

EXTREMES: dict[str, list[object]] = {
    "profile": [None, "agent", "recording"],
    "language": [None, "en", "de", "xx"],
    "keywords": [(), ("a",) * 200],
    "context": ["", "x" * 4000],
    "rolling_context": [None, True, False],
    "vad": ["cascade", "silero"],
    "vad_threshold": [0.05, 0.95],
    "pre_roll_ms": [0, 2000],
    "short_pause_ms": [60, 2000],
    "pause_ms": [60, 2000],
    "endpoint_ms": [None, 100, 10_000],
    "endpointing": ["silence", "turn"],
    "endpoint_min_ms": [100, 10_000],
    "endpoint_max_ms": [100, 60_000],
    "turn_threshold": [0.05, 1.0],
    "eager_threshold": [None, 0.05, 1.0],
    "partials": [True, False],
    "first_partial_ms": [100, 60_000],
    "partial_interval_ms": [100, 60_000],
    "withheld_words": [0, 10],
    "word_times": [True, False],
    "itn": [True, False],
    "replace": [(), ("a:b",) * 200],
    "profanity_filter": [True, False],
    "redact": [(), ("numbers", "pci", "ssn", "pii")],
    "translate_to": [None, "de"],
    "encoding": list(Encoding),
    "sample_rate": [8_000, 44_100],
}


class FakeTurns:
    asks_at_ms = (200, 400)

    def probability(self, pause: Pause) -> float:
        raise AssertionError("the core asked by itself")


def _turns(options: SessionOptions) -> TurnDetector | None:
    return FakeTurns() if options.endpointing == "turn" else None


_OF_THE_AUDIO = ("encoding", "sample_rate")


def test_every_option_that_can_change_has_its_extremes() -> None:
    assert EXTREMES.keys() == CHANGEABLE


@given(
    steps=st.lists(
        st.one_of(
            *(st.tuples(st.just(name), st.sampled_from(values)) for name, values in EXTREMES.items()),
            *[st.tuples(st.just("speech"), st.sampled_from([10, 130, 450, 1700, 7900]))] * 6,
            *[st.tuples(st.just("silence"), st.sampled_from([30, 70, 210, 650, 2900, 10_500]))] * 6,
            st.tuples(st.just("finalize"), st.none()),
        ),
        min_size=5,
        max_size=25,
    ),
    longest_s=st.sampled_from([5.0, 30.0]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=300, deadline=None)
def test_whatever_options_change_all_speech_is_in_one_final_and_no_job_is_too_long(
    steps: list[tuple[str, Any]], longest_s: float, seed: int
) -> None:
    """Decodes begin and end while the detector waits for its network, too, and pauses are judged at any time."""
    chance = random.Random(seed)
    simulation = Simulation(latency=lambda _: chance.choice([0.0, 0.05, 0.4, 3.0]), slots=3)
    options = SessionOptions(encoding=Encoding.F32LE, max_utterance_s=longest_s)
    session = simulation.add(Session("s", options, CAPABILITIES, lambda _: AskingDetector(), make_turn_detector=_turns))
    questions: list[TurnQuestion] = []

    def judge_some() -> None:
        while questions and chance.random() < 0.5:
            judged = session.judged(questions.pop(0), chance.choice([0.0, 0.5, 1.0]), simulation.now)
            simulation.deliver(session, judged)

    def receive(audio: bytes) -> None:
        receiving = session.receiving(audio, simulation.now)
        try:
            while True:
                next(receiving)
                simulation.run_until(simulation.now + chance.choice([0.0, 0.5]))
                simulation.deliver(session, [])
                judge_some()
        except StopIteration as end:
            simulation.deliver(session, end.value)
        questions.extend(session.take_questions())
        judge_some()

    spoken: list[tuple[int, int]] = []
    for number, (what, value) in enumerate(steps):
        if what in ("speech", "silence"):
            audio = (speech if what == "speech" else silence)(value / 1000)
            begin = session.audio_ms
            data = _on_the_wire(audio, session.options)
            size = chance.choice([340, 4000, 64_000])
            for start in range(0, len(data), size):
                receive(data[start : start + size])
            if what == "speech" and not any(name in _OF_THE_AUDIO for name, _ in steps):
                spoken.append((begin, begin + value))
        elif what == "finalize":
            simulation.deliver(session, session.finalize(simulation.now))
        else:
            before = session.options
            try:
                simulation.deliver(session, session.configure(simulation.now, **{what: value}))
            except OptionError:
                assert (what, value) == ("language", "xx"), number
                assert session.options is before
    simulation.stop(session)

    check_invariants([event for _, event in simulation.events["s"]])
    assert session.done
    assert max((len(job.audio) for _, job in simulation.jobs), default=0) <= longest_s * SAMPLE_RATE
    finals = [(final.start_ms, final.end_ms) for final in simulation.finals(session)]
    assert all(end <= start + 1 for (_, end), (start, _) in pairwise(finals))
    for begin, end in spoken:
        if end - begin < 2 * options.onset_ms:
            continue
        # Whole frames are voiced or not; the last may not be there yet when it is finalized.
        covered = sum(max(0, min(end, final_end) - max(begin, start)) for start, final_end in finals)
        assert end - begin - covered <= 2 * FRAME * 1000 / SAMPLE_RATE + len(finals)


def _on_the_wire(audio: Audio, options: SessionOptions) -> bytes:
    """Audio in the session's format, roughly resampled."""
    count = round(len(audio) * options.sample_rate / SAMPLE_RATE)
    places = np.arange(count) * SAMPLE_RATE // options.sample_rate
    samples = audio[np.minimum(places, len(audio) - 1)]
    if options.encoding is Encoding.F32LE:
        return samples.tobytes()
    if options.encoding is Encoding.S16LE:
        return (samples * 32767).astype("<i2").tobytes()
    quiet = 0xFF if options.encoding is Encoding.MULAW else 0xD5
    return np.where(np.abs(samples) > 0.1, 0x80, quiet).astype(np.uint8).tobytes()
