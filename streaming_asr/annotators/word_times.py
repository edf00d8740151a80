"""Times of words where the recognizer has none: estimated ones, and better ones of a word aligner if there is one.

A text whose silence has only begun is aligned beside the stream, so that its final seldom has to wait.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from streaming_asr.core.annotator import Annotation, Annotator, Question, Speech, Waiting, Watch
from streaming_asr.core.estimated_words import estimate_words
from streaming_asr.core.events import Final, Partial
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Capabilities, Word, WordAligner


class EstimatedWords(Annotator):
    """Divides the time of a final among its words."""

    name = "estimated word times"
    options = ("word_times",)

    def final(self, final: Final, speech: Speech | None) -> Final:
        if final.words is not None:
            return final
        return replace(final, words=estimate_words(final.text, final.start_ms, final.end_ms))


@dataclass(frozen=True, slots=True)
class _Aligned:
    """What was aligned, and what came of it."""

    utterance: int
    text: str
    language: str
    samples: int
    words: tuple[Word, ...]
    """In ms of the utterance's audio."""


class AlignedWords(Annotator):
    """Asks a word aligner for the times of a final's words.

    Args:
        aligner: has started.
    """

    name = "aligned word times"
    options = ("word_times",)
    needs_audio = True

    def __init__(self, aligner: WordAligner) -> None:
        self.budget_ms = aligner.budget_ms
        self._aligner = aligner
        self._early: _Aligned | None = None

    def final(self, final: Final, speech: Speech | None) -> Final | Annotation:
        if not final.text or speech is None or final.language not in self._aligner.languages:
            return final
        return self._align_final(final, final.language, speech)

    def watch(self, partial: Partial, speech: Speech) -> Watch | None:
        if not partial.speculative or partial.language not in self._aligner.languages:
            return None
        return self._align_early(partial, partial.language, speech)

    def _align_early(self, partial: Partial, language: str, speech: Speech) -> Watch:
        text = (partial.stable + partial.tentative).strip()
        words = yield from self._align(speech, text, language, early=True)
        if words is not None:
            self._early = _Aligned(partial.utterance, text, language, len(speech.audio), words)
        return ()

    def _align_final(self, final: Final, language: str, speech: Speech) -> Annotation:
        early, self._early = self._early, None
        same = (final.utterance, final.text, language, len(speech.audio))
        if early is not None and (early.utterance, early.text, early.language, early.samples) == same:
            words: tuple[Word, ...] | None = early.words
        else:
            words = yield from self._align(speech, final.text, language, early=False)
        return replace(final, words=_in_stream(words, speech)) if words else final

    def _align(
        self, speech: Speech, text: str, language: str, *, early: bool
    ) -> Generator[Question, Any, tuple[Word, ...] | None]:
        words: tuple[Word, ...] | None
        words = yield Waiting(lambda: self._aligner.align(speech.audio, text, language, early=early))
        return words


def _in_stream(words: tuple[Word, ...], speech: Speech) -> tuple[Word, ...]:
    """Words in ms of the stream, each within the audio of its utterance; that of the next utterance begins after it."""
    end_ms = len(speech.audio) * 1000 // SAMPLE_RATE

    def placed(time_ms: int) -> int:
        return speech.start_ms + min(time_ms, end_ms)

    return tuple(replace(word, start_ms=placed(word.start_ms), end_ms=placed(word.end_ms)) for word in words)


def estimated(options: SessionOptions, capabilities: Capabilities) -> EstimatedWords | None:
    return EstimatedWords() if options.word_times and not capabilities.word_times else None


def aligned(options: SessionOptions, capabilities: Capabilities) -> AlignedWords | None:
    aligner = capabilities.word_aligner
    return AlignedWords(aligner) if options.word_times and not capabilities.word_times and aligner else None
