"""The port between the core and what changes texts after the recognizer: speakers, word times, figures, redaction.

An annotator belongs to one channel and keeps what it must remember of it. Finals come to it in the order of speech, one
after the other. What takes time it does not do itself: it yields a `Question`, which is answered elsewhere, in a thread
or by another engine, while the session goes on. `annotations.py` sees to it that no final waits longer than the
annotators of its channel may take.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from streaming_asr.core.events import Event, Final, Partial
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Audio, Capabilities


@dataclass(frozen=True, slots=True)
class Blocking:
    """A question that a thread answers."""

    answer: Callable[[], Any]
    """Called in a thread, and may take as long as the annotator's budget."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question that something else answers, such as another engine, while the event loop waits for it."""

    answer: Callable[[], Awaitable[Any]]
    """Called on the event loop, which it must not block. What it returns is cancelled once it is too late."""


Question = Blocking | Waiting

Annotation = Generator[Question, Any, Final]
"""Yields questions, is sent their answers, and returns the final. `TooLate` is raised in it if an answer is late; it is
closed if one fails."""

Watch = Generator[Question, Any, Sequence[Event]]
"""Yields questions, is sent their answers, and returns events to send. It is closed if an answer fails; and one that
watches an utterance, if that gets its final."""


class TooLate(Exception):
    """Raised in an `Annotation` where it waits for an answer that will not come in time. It may return what it has; if
    it does not handle this, the final is sent without it, and the client is warned."""


@dataclass(frozen=True, slots=True)
class Speech:
    """The audio of an utterance, as far as it was decoded."""

    audio: Audio
    """16 kHz, shape ``[n]``, from the utterance's first sample, which is before the speech. Read-only."""
    start_ms: int
    """Of the stream, where the audio begins."""
    voiced: Sequence[tuple[int, int]] = ()
    """Where the voice detector found speech: samples of the audio from, and up to but not including, in order."""


class Annotator:
    """Changes the finals of one channel, and if it likes its partials. Each method here leaves all as it is."""

    name: ClassVar[str]
    """For people, in warnings and metrics: a phrase such as ``speaker labels``."""
    options: ClassVar[tuple[str, ...]] = ()
    """Names of the options of a session that it depends on. If none of them changes in mid-stream, it is kept."""
    budget_ms: int = 0
    """For which a final may wait for its answers; 0 if it asks nothing about finals."""
    follow_ms: ClassVar[int] = 0
    """For which `follow` may wait for each answer; 0 if it does nothing."""
    needs_audio: ClassVar[bool] = False
    """Whether it is given the audio of utterances."""
    changes_partials: ClassVar[bool] = False
    """Whether `partial` does anything."""
    guards: ClassVar[bool] = False
    """Whether a text must not be sent without it. If it fails, the final is sent empty, and a partial not at all. It
    must ask no question about finals, which could come too late."""

    recorded: bool = False
    """Whether the audio is a recording, whose finals may wait for half a minute. Set by what owns the annotator."""

    def warm_up(self) -> None:
        """Load what takes long to load. Called in a thread before a server is ready whose sessions have this annotator
        by default; else the first session that asks for it has to wait.
        """

    def final(self, final: Final, speech: Speech | None) -> Final | Annotation:
        """The final, changed; or a generator that asks questions first.

        Args:
            speech: None if `needs_audio` is False.
        """
        return final

    def partial(self, partial: Partial) -> Partial:
        """The partial, changed. Its stable text must begin with that of the partial before; if it does not, it is not
        sent.
        """
        return partial

    def text(self, text: str, language: str | None) -> str:
        """A text that is sent before its final: what `final` would make of it."""
        return text

    def follow(self, final: Final) -> Watch | None:
        """Look at a final as it was sent. Nothing waits for it but the end of the stream."""
        return None

    def watch(self, partial: Partial, speech: Speech) -> Watch | None:
        """Look at an utterance while it is spoken, if `needs_audio` is True. Nothing waits for it, and one annotator
        watches one partial at a time: those in between are left out. The partial is not changed by other annotators.
        """
        return None


AnnotatorFactory = Callable[[SessionOptions, Capabilities], Annotator | None]
"""Makes the annotator of one channel; None if the options do not ask for it. It must not block.

Raises `OptionError` if the options ask for what can't be done.
"""


class AnnotatorsFactory(Protocol):
    """Makes all annotators of one channel, in the order in which they work."""

    def __call__(self, options: SessionOptions, capabilities: Capabilities) -> Sequence[Annotator]:
        """As `AnnotatorFactory`."""


def no_annotators(options: SessionOptions, capabilities: Capabilities) -> Sequence[Annotator]:
    """The factory for sessions whose finals are sent as they were recognized."""
    return ()
