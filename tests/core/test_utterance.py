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


WORDS = tuple(f" word{n}" for n in range(24))


def _said(first: int, last: int, language: str = "en") -> Hypothesis:
    return Hypothesis(tuple(range(first, last)), WORDS[first:last], language=language)


def _with_stable_text() -> Utterance:
    """An utterance of 4 s, of whose text 12 words are stable."""
    utterance = _utterance()
    for job, end in enumerate((32_000, 64_000), 1):
        utterance.begin(job, Kind.PARTIAL, end, Context(), 0.0)
        assert utterance.decoded(job, _said(0, 15), OPTIONS)
    assert len(utterance.transcript.prefix) == 12
    return utterance


def _final(utterance: Utterance, job: int, hypothesis: Hypothesis, end: int = 72_000) -> tuple[int, ...]:
    """Decode a final; returns the prefix that it was given."""
    flight = utterance.begin(job, Kind.FINAL, end, Context(), 0.0)
    utterance.decoded(job, hypothesis, OPTIONS)
    return flight.prefix


def test_a_final_that_skips_the_stable_text_is_decoded_again_and_begins_with_it() -> None:
    utterance = _with_stable_text()
    utterance.end(72_000, 70_000, 1.0)
    assert _final(utterance, 3, _said(12, 24)) == ()
    assert (utterance.state, utterance.wants(72_000, OPTIONS)) == (State.ENDED, Kind.FINAL)
    assert _final(utterance, 4, _said(0, 24)) == tuple(range(12))
    assert (utterance.state, utterance.result) == (State.SETTLED, _said(0, 24))


@pytest.mark.parametrize("forced", [_said(0, 16), _said(12, 24)], ids=["as many words", "skipped again"])
def test_the_first_final_is_kept_if_the_second_one_adds_nothing(forced: Hypothesis) -> None:
    utterance = _with_stable_text()
    utterance.end(72_000, 70_000, 1.0)
    _final(utterance, 3, _said(10, 24))
    _final(utterance, 4, forced)
    assert (utterance.state, utterance.result) == (State.SETTLED, _said(10, 24))


def test_speech_that_goes_on_gives_the_next_final_another_chance() -> None:
    utterance = _with_stable_text()
    utterance.pause(72_000, 70_000, 1.0)
    utterance.begin(3, Kind.SPECULATIVE, 72_000, Context(), 0.0)
    utterance.decoded(3, _said(12, 24), OPTIONS)
    assert utterance.wants(72_000, OPTIONS) is Kind.SPECULATIVE
    utterance.resume()
    utterance.end(96_000, 90_000, 2.0)
    assert _final(utterance, 4, _said(0, 24), 96_000) == ()
    assert utterance.state is State.SETTLED


@pytest.mark.parametrize(
    ("end", "final"),
    [(72_000, _said(7, 24)), (72_000, _said(12, 24, "de")), (48_000, _said(20, 24))],
    ids=["that has five of twelve words", "in another language", "of less audio than the stable text"],
)
def test_a_final_may_correct_the_stable_text(end: int, final: Hypothesis) -> None:
    utterance = _with_stable_text()
    utterance.end(end, end, 1.0)
    _final(utterance, 3, final, end)
    assert (utterance.state, utterance.result) == (State.SETTLED, final)
