"""The annotators, in the order in which they work. How to add one is in docs/extending/annotator.md."""

from __future__ import annotations

from streaming_asr.annotators import figures, phrases, redaction, translation, word_times
from streaming_asr.annotators.speakers import speakers
from streaming_asr.core.annotator import Annotator, AnnotatorFactory
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Capabilities

ANNOTATORS: tuple[AnnotatorFactory, ...] = (
    word_times.estimated,
    word_times.aligned,
    speakers,
    figures.figures,
    phrases.replace,
    phrases.profanity_filter,
    redaction.redaction,
)
"""First those that need the text as it was spoken, then those that change it; last those that guard it."""


def make_annotators(
    options: SessionOptions, capabilities: Capabilities, translator: translation.Translator | None = None
) -> list[Annotator]:
    """The annotators of one channel, as the options ask; empty if they ask for none.

    Args:
        translator: follows the finals that they made.

    Raises:
        OptionError: what an option asks for can't be done.
    """
    made = (*(make(options, capabilities) for make in ANNOTATORS), translation.translated(options, translator))
    return [annotator for annotator in made if annotator is not None]
