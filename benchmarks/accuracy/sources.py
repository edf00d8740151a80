"""Where transcripts come from, and what a stream showed, utterance by utterance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from streaming_asr.core.recognizer import Audio
from streaming_asr.core.scripts import joined

OnProgress = Callable[[float], None]
"""Called with the seconds of audio that were streamed so far. Must not block."""


class NoTranscript(Exception):
    """A clip got no transcript. The message says why."""


class SourceUnavailable(Exception):
    """Nothing can be transcribed: the model or the server does not exist. The message is for the user."""


@dataclass(slots=True)
class Utterance:
    """The texts and times of one utterance."""

    partial: str = ""
    """The last partial shown before the final."""
    while_speaking: str = ""
    """The last partial that was not made at a pause as the likely final."""
    final: str | None = None
    end_s: float = 0.0
    """Where its speech ends in the audio."""
    lag_s: float = 0.0
    """From there to its final."""
    paused_s: float | None = None
    """When it was declared to be over because of a pause; None where something else ended it, or it is not known."""


@dataclass(slots=True)
class Transcript:
    """What one stream showed, by utterance."""

    utterances: dict[int, Utterance] = field(default_factory=dict)

    def show_partial(self, number: int, text: str, *, speculative: bool) -> None:
        utterance = self.utterances.setdefault(number, Utterance())
        utterance.partial = text
        if not speculative:
            utterance.while_speaking = text

    def show_final(self, number: int, text: str, *, end_s: float, at_s: float) -> None:
        utterance = self.utterances.setdefault(number, Utterance())
        utterance.final, utterance.end_s, utterance.lag_s = text, end_s, at_s - end_s

    def show_pause_end(self, number: int, *, at_s: float) -> None:
        self.utterances.setdefault(number, Utterance()).paused_s = at_s

    @property
    def finals(self) -> str:
        return joined(utterance.final or "" for utterance in self.utterances.values())

    @property
    def partials(self) -> str:
        return joined(utterance.partial.strip() for utterance in self.utterances.values())

    @property
    def while_speaking(self) -> str:
        return joined(utterance.while_speaking.strip() for utterance in self.utterances.values())


class Source(Protocol):
    """Transcribes speech: a model in this process, or a server."""

    @property
    def model(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes that can be forced; empty where unknown."""

    @property
    def at_once(self) -> int:
        """How many streams it can usefully transcribe at once."""

    @property
    def has_partials(self) -> bool:
        """Whether its streams show partials."""

    @property
    def has_lags(self) -> bool:
        """Whether the lag of its finals means anything."""

    async def start(self) -> None:
        """Load the model, or connect to the server.

        Raises:
            SourceUnavailable: this failed.
        """

    async def offline(self, audio: Audio, language: str | None) -> str:
        """The text of a whole file.

        Raises:
            NoTranscript: the recognizer failed.
        """

    async def stream(self, audio: Audio, language: str | None, on_progress: OnProgress) -> Transcript:
        """Transcribe audio as a stream.

        Raises:
            NoTranscript: the stream broke off.
        """

    def memory_bytes(self) -> int:
        """Resident memory of the process that transcribes; 0 where it is not known. May block for a short while."""

    async def close(self) -> None: ...


@asynccontextmanager
async def opened(*sources: Source) -> AsyncIterator[None]:
    """Each source, started and at the end closed, once even where it is given twice.

    Raises:
        SourceUnavailable: one could not be started.
    """
    different = list({id(source): source for source in sources}.values())
    try:
        for source in different:
            await source.start()
        yield
    finally:
        for source in different:
            await source.close()
