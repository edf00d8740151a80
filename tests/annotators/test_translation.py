"""Finals are translated after they were sent, and nothing but the end of the stream waits for that."""

from __future__ import annotations

import asyncio
import functools

import numpy as np
import pytest

from streaming_asr.annotators.registry import make_annotators
from streaming_asr.annotators.translation import Translator
from streaming_asr.core.annotations import MAX_FOLLOWED
from streaming_asr.core.annotator import Waiting
from streaming_asr.core.events import Done, Event, Final, Finalized, SessionWarning, Translation
from streaming_asr.core.options import Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import Hypothesis
from streaming_asr.core.session import Session
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech


class FakeTranslator:
    """Writes the text backwards."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str]] = []
        self.works = True

    async def translate(self, text: str, source: str | None, target: str) -> str | None:
        self.asked.append((text, source, target))
        return text[::-1] if self.works else None


class Scene:
    """A session and its recognizer."""

    def __init__(self, translator: Translator | None, *, recorded: bool = False, **options: object) -> None:
        given = SessionOptions(encoding=Encoding.F32LE).changed(**{"translate_to": "de", **options})
        make = functools.partial(make_annotators, translator=translator)
        self.session = Session(
            "s", given, CAPABILITIES, lambda _: FakeDetector(), make_annotators=make, recorded=recorded
        )
        self._jobs = 0

    def say(self, text: str, language: str | None = "en") -> list[Event]:
        events = self.session.receive(np.concatenate([silence(1), speech(1), silence(0.6)]).tobytes(), 0.0)
        while (demand := self.session.demand()) is not None:
            self._jobs += 1
            assert demand.take(self._jobs, 0.0) is not None
            hypothesis = Hypothesis(tokens=(1,), pieces=(text,), language=language)
            events += self.session.complete(self._jobs, hypothesis, 0.0)
        return [event for event in events if isinstance(event, Final | Translation | SessionWarning)]

    def answer(self) -> list[Event]:
        events: list[Event] = []
        for inquiry in self.session.take_inquiries():
            assert isinstance(inquiry.question, Waiting)
            answer = asyncio.run(inquiry.question.answer())  # type: ignore[arg-type]
            events += self.session.annotated(inquiry, answer, 0.0)
        return events


def test_a_final_is_sent_at_once_and_its_translation_follows() -> None:
    scene = Scene(FakeTranslator())
    (final,) = scene.say("abc")
    assert isinstance(final, Final)
    assert final.text == "abc"
    assert scene.answer() == [Translation(1, 0, "cba", "de")]


def test_what_is_translated_is_the_text_that_was_sent() -> None:
    translator = FakeTranslator()
    scene = Scene(translator, redact=("numbers",))
    scene.say("card 4111111111111111")
    scene.answer()
    ((text, source, target),) = translator.asked
    assert "4111" not in text
    assert (source, target) == ("en", "de")


def test_the_end_of_the_stream_waits_for_translations_and_an_answer_to_finalize_does_not() -> None:
    scene = Scene(FakeTranslator())
    scene.say("abc")
    assert [type(event) for event in scene.session.finalize(0.0)] == [Finalized]
    assert not [event for event in scene.session.stop(0.0) if isinstance(event, Done)]
    assert [type(event) for event in scene.answer()] == [Translation, Done]


@pytest.mark.parametrize("language", ["de", "DE"])
def test_what_is_in_the_language_already_is_not_translated(language: str) -> None:
    scene = Scene(FakeTranslator(), translate_to=language)
    scene.say("abc", "de")
    scene.say("", "en")
    assert not scene.session.take_inquiries()


def test_nothing_is_asked_for_recordings_which_have_no_message_for_it() -> None:
    scene = Scene(FakeTranslator(), recorded=True)
    scene.say("abc")
    assert not scene.session.take_inquiries()


def test_a_translation_that_fails_or_is_late_is_a_warning() -> None:
    translator = FakeTranslator()
    scene = Scene(translator)
    translator.works = False
    scene.say("abc")
    (failed,) = scene.answer()
    scene.say("def")
    (inquiry,) = scene.session.take_inquiries()
    (late,) = scene.session.annotation_missed(inquiry, 15.0, failed=False)
    warnings = [(event.code, event.utterance) for event in (failed, late) if isinstance(event, SessionWarning)]
    assert warnings == [("annotation_failed", 1), ("annotation_late", 2)]


def test_of_too_many_at_once_the_rest_is_left_out() -> None:
    scene = Scene(FakeTranslator())
    for _ in range(MAX_FOLLOWED):
        assert len(scene.say("abc")) == 1
    _, warning = scene.say("abc")
    assert isinstance(warning, SessionWarning)
    assert warning.code == "annotation_late"
    assert len(scene.answer()) == MAX_FOLLOWED


def test_without_a_translator_the_option_is_refused() -> None:
    with pytest.raises(OptionError, match="--translate-url"):
        Scene(None)


def test_what_is_not_a_language_is_refused() -> None:
    for wrong in ("auto", "a b", ""):
        with pytest.raises(OptionError, match="translate_to"):
            SessionOptions(translate_to=wrong)
