"""The wait is a function of the evidence, between the least and the most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.phrase import Phrase, phrase_of
from streaming_asr.core.turn_policy import Evidence, judge


@pytest.mark.parametrize(
    ("text", "language", "phrase"),
    [
        ("That is all.", "en", Phrase.SENTENCE),
        ("“That is all.”", "en", Phrase.SENTENCE),
        ("好的。", "zh", Phrase.SENTENCE),
        ("それで、", "ja", Phrase.OPEN),
        ("In the end,", "en", Phrase.OPEN),
        ("I went to…", "en", Phrase.OPEN),
        ("I went to...", "en", Phrase.OPEN),
        ("I went to the", "en", Phrase.OPEN),
        ("I went to the.", "en", Phrase.OPEN),
        ("Ich wollte, dass", "de", Phrase.OPEN),
        ("What is it for?", "en", Phrase.UNKNOWN),
        ("I went home", "en", Phrase.UNKNOWN),
        ("the", "xx", Phrase.UNKNOWN),
        ("the", None, Phrase.UNKNOWN),
        ("", "en", Phrase.UNKNOWN),
        (" ”", "en", Phrase.UNKNOWN),
    ],
)
def test_how_a_text_stops(text: str, language: str | None, phrase: Phrase) -> None:
    assert phrase_of(text, language) is phrase


def test_a_text_that_goes_on_lengthens_the_wait_and_a_sentence_shortens_it() -> None:
    options = SessionOptions()
    waits = [judge(Evidence(0.6, phrase), options).wait_ms for phrase in (Phrase.SENTENCE, Phrase.UNKNOWN, Phrase.OPEN)]
    assert waits == sorted(waits)
    assert waits[1] < 500 < waits[2]


@given(
    probabilities=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    phrase=st.sampled_from(Phrase),
    threshold=st.floats(0.05, 1),
    usual=st.integers(100, 10_000),
    least=st.integers(100, 10_000),
    most=st.integers(100, 60_000),
)
def test_the_wait_falls_with_the_probability_and_stays_in_its_bounds(
    probabilities: tuple[float, float], phrase: Phrase, threshold: float, usual: int, least: int, most: int
) -> None:
    options = SessionOptions(endpoint_ms=usual, endpoint_min_ms=least, endpoint_max_ms=most, turn_threshold=threshold)
    low, high = (judge(Evidence(probability, phrase), options) for probability in sorted(probabilities))
    assert low.wait_ms >= high.wait_ms - 1e-6
    for verdict in (low, high):
        assert min(least, usual) - 1e-6 <= verdict.wait_ms <= max(most, usual) + 1e-6
        assert verdict.over is (verdict.probability >= threshold)
        assert (verdict.wait_ms <= usual + 1e-6) is verdict.over or verdict.wait_ms == pytest.approx(usual)
