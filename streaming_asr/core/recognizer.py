"""The port between sessions and recognizers: a recognizer takes a decode job and returns a hypothesis.

Sessions know no engine, and recognizers know no sessions.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Hz, of all audio in the core and in recognizers."""

Audio = NDArray[np.float32]
"""Mono samples at `SAMPLE_RATE`, shape ``[n]``, nominally in -1..1."""


class Kind(enum.IntEnum):
    """What a decode is for. The order is the order of urgency: lower goes first."""

    FINAL = 0
    """The whole of an ended utterance. The user waits for it."""
    SPECULATIVE = 1
    """A final made at a pause, before the endpoint is certain."""
    PARTIAL = 2
    """The text so far of an utterance that is still being spoken."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the recognizer is given besides the audio."""

    text: str = ""
    """Background the client gave (names, topic), free text."""
    keywords: tuple[str, ...] = ()
    """Words or phrases that are likely to occur."""
    previous: str = ""
    """The latest finals of the same speaker, oldest first."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One request to a recognizer."""

    id: int
    """Unique within the process."""
    kind: Kind
    utterance: str
    """Unique within the process; the audio of one utterance only ever grows, so engines may cache by it."""
    audio: Audio
    """The utterance from its first sample, shape ``[n]``. Read-only."""
    context: Context = field(default_factory=Context)
    language: str | None = None
    """ISO 639-1 code that is forced, or None to detect."""
    prefix: tuple[int, ...] = ()
    """Token ids, of the same recognizer, that the text must start with."""
    word_times: bool = False
    """Whether `Hypothesis.words` is wanted. Recognizers without word times ignore it."""


class TimesFrom(str, enum.Enum):
    """Where the times of a word come from."""

    RECOGNIZER = "recognizer"
    ALIGNER = "aligner"
    """A second model, which was given the audio and the text."""
    ESTIMATE = "estimate"
    """The time of the words around it, divided in proportion to their lengths."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its place in the utterance's audio."""

    text: str
    """With its punctuation, without surrounding spaces."""
    start_ms: int
    """From the utterance's first sample."""
    end_ms: int
    probability: float | None = None
    speaker: int | None = None
    """Of the session, from 0; None where it is not known. No recognizer knows it."""
    times_from: TimesFrom = TimesFrom.RECOGNIZER


@dataclass(frozen=True, slots=True)
class Cost:
    """What a decode took; seconds of wall clock, or counts. None or 0 where the engine does not report it."""

    encode_s: float = 0.0
    decode_s: float = 0.0
    audio_s: float = 0.0
    """Seconds of audio (padding included) that went through the encoder."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    decodes: int = 1
    """More than 1 when a guard had the audio decoded again, or the language was in doubt."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a recognizer made of a job."""

    tokens: tuple[int, ...] = ()
    """Ids of the text's tokens, the forced prefix included; no special tokens."""
    pieces: tuple[str, ...] = ()
    """Text of each token, same length as `tokens`. A character of several tokens is whole in the last of them."""
    language: str | None = None
    """ISO 639-1 code, or None where the recognizer does not know."""
    language_probability: float | None = None
    complete: bool = True
    """False when the length limit ended the text rather than the model."""
    confidence: float | None = None
    """Mean token probability, 0..1."""
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each token, same length as `tokens`."""
    unsure: bool = False
    """Whether the words of a partial are likely to be taken back: it shows only those that the one before had too."""
    no_speech: float | None = None
    """Probability that the audio has no speech, where the recognizer gives one."""
    words: tuple[Word, ...] | None = None
    cost: Cost = field(default_factory=Cost)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def plain_text(text: str, language: str | None) -> str:
    """The answer of a model that writes nothing but the text."""
    return text


class WordAligner(Protocol):
    """A second model, which finds the times of words in audio whose text is known."""

    budget_ms: int
    """For which a final may wait for its times."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the languages that it knows, 639-3 where there is none."""

    async def align(self, audio: Audio, text: str, language: str, *, early: bool = False) -> tuple[Word, ...] | None:
        """The times of a text's words. Cancelling the call gives the work up.

        Args:
            audio: in which the text is spoken, shape ``[n]``.
            language: one of `languages`.
            early: whether it may turn out to be of no use, and goes after those that are.

        Returns:
            The words, in ms of the audio; None where they can't be had, which is logged.
        """


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a recognizer is and can do. Fixed once it has started."""

    name: str
    """Of the recognizer: ``faster-whisper``, ``vllm``."""
    model: str
    """Name or path of the weights, as a user would write it."""
    device: str
    """Where it runs, for people: ``cpu int8, 2 workers``."""
    concurrency: int
    """How many jobs it can usefully run at once."""
    max_audio_s: float
    """Longest utterance it takes whole, seconds."""
    languages: tuple[str, ...]
    """ISO 639-1 codes it can be forced to; one entry means it knows only that language."""
    prefix_forcing: bool = True
    word_times: bool = False
    abortable: bool = False
    """Whether a decode that is cancelled ends at once. If not, one that turns out to be of no use as a final runs on,
    and its text is used as a partial."""
    context: bool = True
    """Whether `Context` changes anything."""
    rolling_context: bool = False
    """Whether earlier finals in the context are known to help more than they harm; the default for sessions."""
    aliases: tuple[str, ...] = ()
    """Names besides `model` that clients may give."""
    writes_figures: bool = False
    """Whether its texts have numbers, dates and money as people write them, rather than as they are said."""
    raw_answer: Callable[[str, str | None], str] = plain_text
    """Writes a transcript, from its text and its ISO 639-1 language, as the model itself answers."""
    word_aligner: WordAligner | None = None
    """Finds the times of words in finals, where the recognizer has none."""


class Recognizer(Protocol):
    """An engine, or a connection to one, that decodes jobs. Lives on one event loop, which it must never block."""

    @property
    def capabilities(self) -> Capabilities:
        """Valid after `start`."""

    async def start(self) -> None:
        """Load weights and warm up.

        Raises:
            RecognizerUnavailable: something is missing; the message says what, and the command that installs it.
        """

    async def decode(self, job: DecodeJob) -> Hypothesis:
        """Decode one job. Cancelling the call gives the work up as early as the engine can. The call ends when the
        engine is free for another job, not before: that job would wait for the engine where none overtakes it, however
        urgent.

        Raises:
            DecodeFailed: this job can't be decoded; others can.
        """

    def release(self, utterance: str) -> None:
        """Drop what is kept for this utterance: it has no further job."""

    async def close(self) -> None:
        """Stop, and free all that `start` took. Jobs in flight fail."""


class Health(enum.Enum):
    """Of an engine that lives in other processes."""

    READY = "ready"
    RECOVERING = "recovering"
    """It died and is being started again; jobs wait."""
    FAILED = "failed"
    """It died too often and is given up; jobs fail."""


@runtime_checkable
class Supervised(Protocol):
    """A recognizer whose engine can die without this process."""

    def subscribe(self, listener: Callable[[Health], None]) -> None:
        """Call the listener, on the event loop, at each change after `start`. It must not block."""

    def gauges(self) -> Mapping[str, float]:
        """The engine's own figures, by name: for metrics."""


class RecognizerUnavailable(Exception):
    """The recognizer can't start here. The message is for the user."""


class EngineNotInstalled(RecognizerUnavailable):
    """The engine that runs a model is not installed."""

    def __init__(self, engine: str, model: str) -> None:
        super().__init__(f"{model} runs under {engine}, which is not installed.")
        self.engine = engine
        """Such as ``vLLM``."""
        self.model = model
        """As the user named it."""


class DecodeFailed(Exception):
    """One job failed. The message is for the log; the client gets a `warning`."""


class RecognizerDown(DecodeFailed):
    """The engine died under the job. The same job can be tried again once the recognizer has recovered."""
