"""Speaker labels of real voices, in a session without a server: two readers in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streaming_asr.annotators.speakers import MAX_LATE, Speakers, speakers
from streaming_asr.core.annotations import Annotations, Inquiry
from streaming_asr.core.annotator import Blocking
from streaming_asr.core.events import Event, Final, Partial, SessionWarning, SpeakerIdentified
from streaming_asr.core.options import ChannelMode, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Word
from tests.support.fakes import CAPABILITIES
from tests.support.wire import speech

# They need onnxruntime.
pytestmark = pytest.mark.full

Span = tuple[int, int]


@pytest.fixture(scope="module")
def readers(librivox: Path) -> tuple[Audio, Audio]:
    """About six seconds of each of two readers."""
    paths = librivox / "sense_and_sensibility_01_0870.wav", librivox.parent / "readers" / "1272-128104-0000.wav"
    first, second = (speech(path).astype(np.float32) / 32768 for path in paths)
    return first[5_000 : 5_000 + 5 * SAMPLE_RATE], second[8_000 : 8_000 + 5 * SAMPLE_RATE]


class Listening:
    """A channel's annotations, whose questions are answered at once, or never."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.asked = 0
        """Windows that were embedded."""
        self.annotations = Annotations(0, [Speakers()], recorded=False)
        self.number = 0

    def say(self, audio: Audio, voiced: list[Span] | None = None, words: tuple[Word, ...] | None = None) -> list[Event]:
        """An utterance, and the events at its final."""
        self.number += 1
        self._keep(audio, voiced, final=True)
        final = Final(self.number, 0, "so it is", "en", 0, len(audio) // 16, None, words)
        return self._run(self.annotations.passed([final], 0.0))

    def begin(self, audio: Audio, *, speculative: bool = False) -> list[Event]:
        """A partial of the next utterance, up to here."""
        self._keep(audio, None, final=False, number=self.number + 1)
        partial = Partial(self.number + 1, 0, 1, "so", " it", "en", 0, len(audio) // 16, speculative)
        return self._run(self.annotations.passed([partial], 0.0))

    def _keep(self, audio: Audio, voiced: list[Span] | None, *, final: bool, number: int | None = None) -> None:
        spans = [(0, len(audio))] if voiced is None else voiced
        self.annotations.keep(number or self.number, audio, 0, spans, final=final)

    def _run(self, events: list[Event]) -> list[Event]:
        return events + [event for inquiry in self._inquiries() for event in self._answer(inquiry)]

    def _inquiries(self) -> Iterator[Inquiry]:
        while inquiries := self.annotations.take_inquiries():
            yield from inquiries

    def _answer(self, inquiry: Inquiry) -> list[Event]:
        if not self.answers:
            return self.annotations.missed(inquiry, 1.0, failed=False)
        assert isinstance(inquiry.question, Blocking)
        answer = inquiry.question.answer()
        self.asked += len(answer)
        return self.annotations.answered(inquiry, answer, 0.0)


def final_of(events: list[Event]) -> Final:
    (final,) = (event for event in events if isinstance(event, Final))
    return final


def test_two_readers_in_turn_have_two_labels(readers: tuple[Audio, Audio]) -> None:
    listening = Listening()
    first, second = readers
    turns = [first, second, first[: 2 * SAMPLE_RATE], second[: 2 * SAMPLE_RATE]]
    assert [final_of(listening.say(turn)).speaker for turn in turns] == [0, 1, 0, 1]


def test_each_word_of_an_utterance_with_two_readers_has_its_own_label(readers: tuple[Audio, Audio]) -> None:
    gap = np.zeros(SAMPLE_RATE // 4, np.float32)
    audio = np.concatenate([readers[0], gap, readers[1]])
    voiced = [(0, len(readers[0])), (len(readers[0]) + len(gap), len(audio))]
    words = tuple(Word(str(start), start, start + 300) for start in range(100, 10_000, 500))
    final = final_of(Listening().say(audio, voiced, words))
    assert final.words is not None
    assert [word.speaker for word in final.words] == [0] * 10 + [1] * 10


def test_a_speaker_who_is_known_is_identified_while_they_speak(readers: tuple[Audio, Audio]) -> None:
    listening = Listening()
    for reader in readers:
        listening.say(reader)
    half_a_second = readers[1][SAMPLE_RATE : SAMPLE_RATE * 3 // 2]
    events = listening.begin(half_a_second)
    assert [event.speaker for event in events if isinstance(event, SpeakerIdentified)] == [1]
    (partial,) = (event for event in listening.begin(half_a_second) if isinstance(event, Partial))
    assert partial.speaker == 1


def test_a_final_does_not_wait_for_what_was_embedded_at_the_pause(readers: tuple[Audio, Audio]) -> None:
    listening = Listening()
    listening.begin(readers[0], speculative=True)
    asked = listening.asked
    assert final_of(listening.say(readers[0])).speaker == 0
    assert listening.asked == asked > 0


def test_a_final_whose_answers_are_late_has_the_labels_of_what_is_known(readers: tuple[Audio, Audio]) -> None:
    listening = Listening()
    listening.begin(readers[0][: 4 * SAMPLE_RATE])
    listening.answers = False
    events = listening.say(readers[0])
    assert final_of(events).speaker == 0
    assert not any(isinstance(event, SessionWarning) for event in events)


def test_a_final_of_which_nothing_is_known_goes_without_labels_and_the_client_is_warned(
    readers: tuple[Audio, Audio],
) -> None:
    events = Listening(answers=False).say(readers[0])
    assert final_of(events).speaker is None
    (warning,) = (event for event in events if isinstance(event, SessionWarning))
    assert (warning.code, warning.utterance) == ("annotation_late", 1)


def test_the_windows_that_a_live_final_waits_for_are_bounded(readers: tuple[Audio, Audio]) -> None:
    listening = Listening()
    assert final_of(listening.say(np.tile(readers[0], 6))).speaker == 0
    assert listening.asked <= MAX_LATE


def test_what_is_too_short_to_know_a_voice_by_has_the_label_before_it(readers: tuple[Audio, Audio]) -> None:
    listening = Listening()
    nothing = np.zeros(SAMPLE_RATE // 5, np.float32)
    assert final_of(listening.say(nothing)).speaker is None
    listening.say(readers[0])
    assert final_of(listening.say(nothing)).speaker == 0


def test_a_channel_that_is_a_party_has_its_number_as_label_and_no_voice_is_compared() -> None:
    options = SessionOptions(speakers=True, channels=2, channel_mode=ChannelMode.SPLIT)
    annotator = speakers(options, CAPABILITIES)
    assert annotator is not None
    assert not annotator.needs_audio
    word = Word("so", 0, 100)
    final = annotator.final(Final(1, 1, "so", "en", 0, 100, None, (word,)), None)
    assert isinstance(final, Final)
    assert (final.speaker, final.words) == (1, (replace(word, speaker=1),))


def test_without_being_asked_for_there_are_no_labels() -> None:
    assert speakers(SessionOptions(), CAPABILITIES) is None
