"""Words of finals have times, found by a word aligner or estimated, and say which of the two."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.annotations import Inquiry
from streaming_asr.core.annotator import Waiting
from streaming_asr.core.events import Event, Final, SessionWarning, SpeechEnded
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Hypothesis, Kind, TimesFrom, Word
from streaming_asr.core.session import Session
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech

ALIGNER, ESTIMATE = TimesFrom.ALIGNER, TimesFrom.ESTIMATE


class FakeAligner:
    """Divides the whole audio, and a little more, evenly among the words; a real one runs in tests/vllm."""

    budget_ms = 250
    languages = ("en",)

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.ready = True

    async def align(self, audio: Audio, text: str, language: str, *, early: bool = False) -> tuple[Word, ...] | None:
        self.asked.append((text, early))
        if not self.ready:
            return None
        words = text.split()
        step = (1000 * len(audio) // SAMPLE_RATE + 80) // len(words)
        return tuple(Word(word, n * step, (n + 1) * step, times_from=ALIGNER) for n, word in enumerate(words))


class Scene:
    """A session with word times, and its recognizer."""

    def __init__(self, aligner: FakeAligner | None, **options: object) -> None:
        given = SessionOptions(encoding=Encoding.F32LE, pre_roll_ms=0).changed(**{"word_times": True, **options})
        can = replace(CAPABILITIES, word_aligner=aligner)
        self.session = Session("s", given, can, lambda _: FakeDetector(), make_annotators=make_annotators)
        self._jobs = 0

    def receive(self, *audio: Audio) -> list[Event]:
        return self.session.receive(np.concatenate(audio).tobytes(), 0.0)

    def decode(self, text: str, language: str = "en", now: float = 0.0) -> list[Event]:
        """Give all decodes that are wanted now this text."""
        events: list[Event] = []
        while (demand := self.session.demand()) is not None:
            self._jobs += 1
            assert demand.take(self._jobs, now) is not None
            hypothesis = Hypothesis(tokens=(1,), pieces=(text,), language=language)
            events += self.session.complete(self._jobs, hypothesis, now)
        return events

    def answer(self) -> list[Event]:
        return [event for inquiry in self.session.take_inquiries() for event in self.answer_one(inquiry)]

    def answer_one(self, inquiry: Inquiry) -> list[Event]:
        assert isinstance(inquiry.question, Waiting)
        return self.session.annotated(inquiry, asyncio.run(inquiry.question.answer()), 0.0)  # type: ignore[arg-type]

    def say(self, text: str, language: str = "en") -> list[Event]:
        """Two seconds of silence, one of speech, and the final."""
        self.receive(silence(2), speech(1), silence(0.6))
        return self.decode(text, language)


def final_of(events: list[Event]) -> Final:
    (final,) = [event for event in events if isinstance(event, Final)]
    return final


def sources(final: Final) -> set[TimesFrom]:
    return {word.times_from for word in final.words or ()}


def test_without_an_aligner_the_times_are_estimated_and_say_so() -> None:
    final = final_of(Scene(None).say("to be, or not"))
    assert [word.text for word in final.words or ()] == ["to", "be,", "or", "not"]
    assert [(word.start_ms, word.end_ms) for word in final.words or ()] == [
        (2000, 2200),
        (2200, 2500),
        (2500, 2700),
        (2700, 3000),
    ]
    assert sources(final) == {ESTIMATE}


def test_with_an_aligner_the_words_have_its_times_in_the_stream() -> None:
    scene = Scene(FakeAligner())
    assert not [event for event in scene.say("to be") if isinstance(event, Final)]
    final = final_of(scene.answer())
    assert [word.text for word in final.words or ()] == ["to", "be"]
    assert next(word.start_ms for word in final.words or ()) == 2000
    assert sources(final) == {ALIGNER}


@pytest.mark.parametrize("language", ["de", None])
def test_a_language_that_the_aligner_does_not_know_is_not_asked_about(language: str) -> None:
    aligner = FakeAligner()
    assert sources(final_of(Scene(aligner).say("sein oder", language))) == {ESTIMATE}
    assert aligner.asked == []


def test_an_aligner_that_has_no_times_leaves_the_estimated_ones() -> None:
    aligner = FakeAligner()
    aligner.ready = False
    scene = Scene(aligner)
    scene.say("to be")
    assert sources(final_of(scene.answer())) == {ESTIMATE}


def test_an_aligner_that_is_late_holds_the_final_no_longer_than_its_budget() -> None:
    scene = Scene(FakeAligner())
    scene.receive(speech(1), silence(0.6))
    scene.decode("to be", now=5.0)
    (inquiry,) = scene.session.take_inquiries()
    assert inquiry.due == pytest.approx(5.25)
    events = scene.session.annotation_missed(inquiry, 5.25, failed=False)
    assert sources(final_of(events)) == {ESTIMATE}
    assert [event.code for event in events if isinstance(event, SessionWarning)] == ["annotation_late"]


def test_a_text_aligned_at_the_pause_is_not_aligned_again() -> None:
    aligner = FakeAligner()
    scene = Scene(aligner)
    scene.receive(speech(1), silence(0.3))
    demand = scene.session.demand()
    assert demand is not None
    assert demand.kind is Kind.SPECULATIVE
    scene.decode("to be")
    scene.answer()
    assert aligner.asked == [("to be", True)]
    final = final_of(scene.receive(silence(0.4)))
    assert sources(final) == {ALIGNER}
    assert aligner.asked == [("to be", True)]


def test_a_pause_that_was_none_costs_only_its_early_times() -> None:
    aligner = FakeAligner()
    scene = Scene(aligner)
    scene.receive(speech(1), silence(0.3))
    scene.decode("to be")
    scene.answer()
    scene.receive(speech(1), silence(0.6))
    scene.decode("to be or not to be")
    assert sources(final_of(scene.answer())) == {ALIGNER}
    assert aligner.asked == [("to be", True), ("to be or not to be", False)]


def test_nothing_is_asked_for_sessions_without_word_times() -> None:
    aligner = FakeAligner()
    scene = Scene(aligner, word_times=False)
    assert final_of(scene.say("to be")).words is None
    assert aligner.asked == []


def test_the_audio_before_a_long_pause_is_there_for_its_words() -> None:
    scene = Scene(FakeAligner(), endpoint_ms=None)
    scene.receive(silence(1), speech(1), silence(12))
    assert scene.session.held_s < 2, "the silence is not kept"
    scene.decode("to be")
    scene.answer()
    final = final_of(scene.receive(speech(1)) + scene.answer())
    assert sources(final) == {ALIGNER}
    assert [(word.start_ms, word.end_ms) for word in final.words or ()] == [(1000, 1588), (1588, 2096)]


def test_words_at_a_cut_belong_to_one_final_each() -> None:
    scene = Scene(FakeAligner(), max_utterance_s=5)
    finals: list[Final] = []
    cut: list[int] = []
    for _ in range(12):
        events = scene.receive(speech(1))
        cut += [event.end_ms for event in events if isinstance(event, SpeechEnded)]
        events += scene.decode("all that was said here") + scene.answer()
        finals += [event for event in events if isinstance(event, Final)]
    assert len(finals) == len(cut) == 2
    words = [word for final in finals for word in final.words or ()]
    assert len(words) == 10
    assert all(word.end_ms <= after.start_ms for word, after in pairwise(words))
    assert words[4].end_ms == cut[0] == words[5].start_ms
