"""Events of a session, independent of any protocol.

Times are milliseconds of the stream: 0 is the first sample the client sent. `utterance` counts from 1 in each session.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from streaming_asr.core.recognizer import Word


class EndReason(str, enum.Enum):
    """Why an utterance ended."""

    ENDPOINT = "endpoint"
    """Silence lasted for `endpoint_ms`, or a minute where none is set; no turn detector had judged it."""
    TURN = "turn"
    """The turn detector took the turn for over."""
    TIMEOUT = "timeout"
    """Silence lasted for as long as was asked for, though the turn detector did not take the turn for over."""
    FINALIZE = "finalize"
    """The client asked."""
    LENGTH = "length"
    """Speech went on for longer than an utterance may last, or after a long pause. The next utterance continues it, and
    has begun."""
    STOP = "stop"
    """The stream ended."""

    @property
    def by_pause(self) -> bool:
        """Whether a silence ended it, rather than the client or its length."""
        return self in (EndReason.ENDPOINT, EndReason.TURN, EndReason.TIMEOUT)


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    utterance: int
    channel: int
    start_ms: int
    """Where the first voiced frame begins."""


@dataclass(frozen=True, slots=True)
class Partial:
    utterance: int
    channel: int
    revision: int
    """Counts from 1 in each utterance."""
    stable: str
    """Only ever extended within an utterance."""
    tentative: str
    """Follows `stable` directly, with its own leading space; replaced by each revision."""
    language: str | None
    start_ms: int
    end_ms: int
    """End of the audio that this text was decoded from."""
    speculative: bool = False
    """Made at a pause: if the silence holds to the endpoint, this text is the final, but for what annotators change."""
    logprobs: tuple[tuple[str, float], ...] | None = None
    """Text and natural log-probability of each token of `stable`; None where the recognizer does not report them."""
    speaker: int | None = None
    """As far as it is known; the final may have another."""


@dataclass(frozen=True, slots=True)
class SpeakerIdentified:
    """Who is speaking now, as far as it is known; the final may have another label."""

    utterance: int
    channel: int
    speaker: int
    """Counts from 0 in each session."""
    time_ms: int
    """End of the audio that was compared."""


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """Speech went on after a pause whose speculative text had been sent."""

    utterance: int
    channel: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class EagerTurnEnd:
    """At a pause: the turn is probably over, so an answer to `text` may be begun. At most once a pause.

    Either `SpeechEnded` and the final with this text follow, or `TurnResumed`.
    """

    utterance: int
    channel: int
    time_ms: int
    """Where the last voiced frame ends."""
    text: str
    """What the final will be if the silence holds."""
    probability: float
    """That the turn is over, 0..1."""
    language: str | None = None
    """ISO 639-1 code of the text's language, where it is known."""


@dataclass(frozen=True, slots=True)
class TurnResumed:
    """Speech went on after an `EagerTurnEnd`: an answer begun is void. After a long pause another utterance continues
    the turn: the `SpeechEnded` of this one follows."""

    utterance: int
    channel: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    utterance: int
    channel: int
    start_ms: int
    end_ms: int
    """Where the last voiced frame ends."""
    reason: EndReason
    probability: float | None = None
    """That the turn is over, 0..1, where a turn detector judged the pause."""
    silence_ms: int = field(default=0, compare=False)
    """Audio received after `end_ms` until this was decided. It depends on the size of the pieces that were received."""


@dataclass(frozen=True, slots=True)
class Final:
    """The text of one utterance; exactly one for each, in the order of speech. Empty when nothing was said."""

    utterance: int
    channel: int
    text: str
    language: str | None
    start_ms: int
    end_ms: int
    confidence: float | None
    words: tuple[Word, ...] | None
    """In stream time. None where the recognizer has none, or the session did not ask for them."""
    logprobs: tuple[tuple[str, float], ...] | None = None
    """Each token's text and natural log-probability, where the recognizer has them."""
    speaker: int | None = None
    """Of most of the speech, from 0; None where it is not known. Each of the `words` has its own."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A final in another language. It comes after the final, which did not wait for it."""

    utterance: int
    channel: int
    text: str
    language: str
    """As the session asked for it."""


@dataclass(frozen=True, slots=True)
class SessionWarning:
    """Something the client should know; the session goes on."""

    code: str
    message: str
    channel: int | None = None
    utterance: int | None = None
    repair: bool = False
    """Whether something that the client sent was wrong, and was repaired. Once a session and code."""


@dataclass(frozen=True, slots=True)
class Finalized:
    """All finals of the audio received before a `finalize` have been sent."""

    channel: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """The last event: nothing is pending."""

    audio_ms: int


Event = (
    SpeechStarted
    | Partial
    | SpeakerIdentified
    | SpeechResumed
    | EagerTurnEnd
    | TurnResumed
    | SpeechEnded
    | Final
    | Translation
    | Finalized
    | SessionWarning
    | Done
)
