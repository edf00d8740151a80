"""An utterance goes through its states, and is settled once."""

from __future__ import annotations

import numpy as np
import pytest

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Context, Hypothesis, Kind
from streaming_asr.core.utterance import MAX_ATTEMPTS, OwnAudio, State, Utterance

OPTIONS = SessionOptions()
HYPOTHESIS = Hypothesis(tokens=(1,), pieces=(" yes",))


def _utterance() -> Utterance:
    return Utterance(1, start=0, speech_start=1_000, now=0.0)


def _decode(utterance: Utterance, job: int, end: int) -> None:
    kind = utterance.wants(end, OPTIONS)
    assert kind is not None
    utterance.begin(job, kind, end, Context(), 0.0)
    utterance.decoded(job, HYPOTHESIS, OPTIONS)


def test_a_pause_that_holds_makes_the_speculative_result_the_final() -> None:
    utterance = _utterance()
    utterance.pause(16_000, 12_000, 1.0)
    assert utterance.state is State.PAUSED
    _decode(utterance, 1, 16_000)
    assert (utterance.state, utterance.result) == (State.PAUSED, HYPOTHESIS)
    utterance.end(16_000, 12_000, 1.5)
    assert utterance.state is State.SETTLED
    assert utterance.wants(16_000, OPTIONS) is None


def test_after_a_long_pause_it_keeps_its_result_and_can_only_end() -> None:
    utterance = _utterance()
    utterance.pause(16_000, 12_000, 1.0)
    utterance.rest(OwnAudio(np.zeros(16_000, np.float32), []))
    _decode(utterance, 1, 200_000)
    with pytest.raises(AssertionError):
        utterance.resume()
    utterance.end(16_000, 12_000, 12.0)
    assert (utterance.state, utterance.result) == (State.SETTLED, HYPOTHESIS)


def test_speech_that_goes_on_drops_the_speculative_result() -> None:
    utterance = _utterance()
    utterance.pause(16_000, 12_000, 1.0)
    _decode(utterance, 1, 16_000)
    utterance.resume()
    assert (utterance.state, utterance.result, utterance.final_end) == (State.OPEN, None, None)


def test_an_open_utterance_may_end_without_a_pause() -> None:
    utterance = _utterance()
    utterance.end(16_000, 12_000, 1.0)
    assert utterance.state is State.ENDED
    assert utterance.wants(16_000, OPTIONS) is Kind.FINAL
    _decode(utterance, 1, 16_000)
    assert utterance.state is State.SETTLED


def test_an_end_elsewhere_than_at_the_pause_is_decoded_again() -> None:
    utterance = _utterance()
    utterance.pause(16_000, 12_000, 1.0)
    _decode(utterance, 1, 16_000)
    utterance.end(14_000, 12_000, 1.5)
    assert (utterance.state, utterance.result) == (State.ENDED, None)
    _decode(utterance, 2, 16_000)
    assert utterance.state is State.SETTLED


def test_failures_settle_it_without_a_result() -> None:
    utterance = _utterance()
    utterance.end(16_000, 12_000, 1.0)
    for job in range(MAX_ATTEMPTS):
        assert utterance.state is State.ENDED
        utterance.begin(job, Kind.FINAL, 16_000, Context(), 1.0)
        utterance.failed(job, counts=True, now=1.0)
    assert (utterance.state, utterance.result) == (State.SETTLED, None)
