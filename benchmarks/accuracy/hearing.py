"""What a stream's listener was shown, utterance by utterance, and where it comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from streaming_asr.core.recognizer import Audio
from streaming_asr.core.scripts import joined

Told = Callable[[float], None]
"""Is told how many seconds of the audio have been streamed. Must not block."""


class NotHeard(Exception):
    """A clip got no transcript. The message says why."""


class SourceUnavailable(Exception):
    """Nothing can be heard here: no such model, no such server. The message is for the user."""


@dataclass(slots=True)
class Utterance:
    """What became of one utterance."""

    partial: str = ""
    """The last one that was shown before the final."""
    while_speaking: str = ""
    """The last one that was not made at a pause as the likely final."""
    final: str | None = None
    end_s: float = 0.0
    """Where its speech ends in the audio."""
    lag_s: float = 0.0
    """From there to its final."""


@dataclass(slots=True)
class Hearing:
    """Of one stream."""

    utterances: dict[int, Utterance] = field(default_factory=dict)

    def show_partial(self, number: int, text: str, *, speculative: bool) -> None:
        utterance = self.utterances.setdefault(number, Utterance())
        utterance.partial = text
        if not speculative:
            utterance.while_speaking = text

    def show_final(self, number: int, text: str, *, end_s: float, at_s: float) -> None:
        utterance = self.utterances.setdefault(number, Utterance())
        utterance.final, utterance.end_s, utterance.lag_s = text, end_s, at_s - end_s

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
    """Hears speech: a model in this process, or a server."""

    @property
    def model(self) -> str: ...

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes that can be forced; empty where unknown."""

    @property
    def at_once(self) -> int:
        """Streams that it usefully hears at once."""

    @property
    def has_partials(self) -> bool:
        """Whether its streams show partials."""

    @property
    def has_lags(self) -> bool:
        """Whether the lag of its finals means anything."""

    async def start(self) -> None:
        """
        Raises:
            SourceUnavailable: it can't be had.
        """

    async def offline(self, audio: Audio, language: str | None) -> str:
        """The text of a whole file.

        Raises:
            NotHeard: there is none.
        """

    async def stream(self, audio: Audio, language: str | None, told: Told) -> Hearing:
        """
        Raises:
            NotHeard: it broke off.
        """

    def memory_bytes(self) -> int:
        """Resident memory of the process that hears; 0 where it is not known. May block for a short while."""

    async def close(self) -> None: ...


@asynccontextmanager
async def opened(*sources: Source) -> AsyncIterator[None]:
    """Each source, started and at the end closed, once even where it is given twice.

    Raises:
        SourceUnavailable: one can't be had.
    """
    different = list({id(source): source for source in sources}.values())
    try:
        for source in different:
            await source.start()
        yield
    finally:
        for source in different:
            await source.close()
