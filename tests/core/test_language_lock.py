"""The language of an open utterance: in doubt at first, then kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from streaming_asr.core.events import Final, Partial
from streaming_asr.core.language_lock import LONGEST_DOUBT_MS, LONGEST_UNSURE_MS, UtteranceLanguage
from streaming_asr.core.recognizer import DecodeJob, Hypothesis, Kind
from tests.support.fakes import Simulation, make_session, silence, speech


def _detected(language: str, probability: float | None, *, unsure: bool = False) -> Hypothesis:
    return Hypothesis(language=language, language_probability=probability, unsure=unsure)


class Detecting:
    """A recognizer that detects one language after the other, a text of its own in each."""

    def __init__(self, *detections: tuple[str, float]) -> None:
        self._detections = list(detections)
        self.forced: list[tuple[Kind, str | None]] = []

    def __call__(self, job: DecodeJob) -> Hypothesis:
        self.forced.append((job.kind, job.language))
        if job.language is not None:
            language, probability = job.language, None
        else:
            language, probability = self._detections.pop(0) if len(self._detections) > 1 else self._detections[0]
        tokens = tuple(range(len(job.audio) // 4_000))
        tokens = job.prefix + tokens[len(job.prefix) :]
        pieces = tuple(f" {language}{token}" for token in tokens)
        return Hypothesis(tokens, pieces, language=language, language_probability=probability)


def _run(recognizer: Detecting, seconds: float = 5) -> list[Any]:
    simulation = Simulation(answer=recognizer)
    session = simulation.add(make_session())
    simulation.stream(session, np.concatenate([speech(seconds), silence(1)]))
    return [event for _, event in simulation.events[session.key]]


def test_text_in_a_doubtful_language_is_not_shown() -> None:
    events = _run(Detecting(("ar", 0.3), ("en", 0.6), ("de", 0.9)))
    shown = [event.language for event in events if isinstance(event, Partial)]
    assert set(shown) == {"de"}


def test_a_language_detected_twice_is_forced_in_later_partials_and_not_in_the_final() -> None:
    recognizer = Detecting(("de", 0.97), ("de", 0.96), ("fr", 0.99))
    events = _run(recognizer)
    partials = [language for kind, language in recognizer.forced if kind is Kind.PARTIAL]
    assert set(partials[2:]) == {"de"}
    assert next(event.language for event in events if isinstance(event, Final)) == "fr"


def test_another_language_is_shown_once_it_is_certain_itself() -> None:
    events = _run(Detecting(("ar", 0.9), ("ml", 0.3), ("es", 0.97), ("es", 0.99)))
    shown = [event.language for event in events if isinstance(event, Partial)]
    assert shown[0] == "ar"
    assert "ml" not in shown
    assert shown[-1] == "es"


def test_nothing_is_stable_while_the_language_is_in_doubt() -> None:
    events = _run(Detecting(("ar", 0.9), ("ar", 0.93), ("ar", 0.9), ("es", 0.9), ("es", 0.97)))
    stable = [event.stable for event in events if isinstance(event, Partial) and event.stable]
    assert stable
    assert not any("ar" in text for text in stable)


def test_the_likeliest_language_is_kept_where_none_becomes_certain() -> None:
    recognizer = Detecting(*[("es", 0.7)] * 4, ("hi", 0.3), ("bn", 0.2))
    events = _run(recognizer, 6)
    shown = [event for event in events if isinstance(event, Partial)]
    assert {event.language for event in shown} == {"es"}
    assert shown[0].end_ms >= LONGEST_DOUBT_MS


def test_a_recognizer_without_probabilities_is_believed() -> None:
    language = UtteranceLanguage()
    assert language.add(_detected("de", None), 300, None)
    assert language.add(_detected("en", None), 600, "de")
    assert language.certain is None
    assert language.add(_detected("en", None), 900, "en")
    assert language.certain == "en"


def test_unsure_texts_settle_their_language_only_after_a_long_time() -> None:
    """Noisy English that is detected as German: the German texts are unsure."""
    language = UtteranceLanguage()
    for speech_ms, probability in ((1_000, 0.87), (2_000, 0.92), (3_200, 0.78), (4_000, 0.85)):
        language.add(_detected("de", probability, unsure=True), speech_ms, None)
    assert language.certain is None
    assert language.add(_detected("de", 0.7, unsure=True), LONGEST_UNSURE_MS, "de")
    assert language.certain == "de"


def test_a_text_that_is_not_unsure_settles_its_language_in_spite_of_earlier_unsure_ones() -> None:
    language = UtteranceLanguage()
    for speech_ms, probability in ((1_000, 0.87), (2_000, 0.92), (3_200, 0.78)):
        language.add(_detected("de", probability, unsure=True), speech_ms, None)
    assert not language.add(_detected("en", 0.3), 3_800, "de")
    assert language.add(_detected("en", 0.6), 4_400, "de")
    assert language.certain == "en"


def test_a_single_unlikely_detection_settles_nothing_against_unsure_texts_of_another_language() -> None:
    """Noisy German, of which one decode makes English."""
    language = UtteranceLanguage()
    for speech_ms in (1_000, 2_000, 3_200):
        language.add(_detected("de", 0.9, unsure=True), speech_ms, None)
    assert not language.add(_detected("en", 0.4), 3_800, "de")
    assert language.certain is None
    assert language.add(_detected("de", 0.9), 4_400, "de")
    assert language.certain == "de"


def test_no_speech_settles_no_language() -> None:
    language = UtteranceLanguage()
    assert language.add(Hypothesis(), 5_000, None)
    assert language.certain is None
