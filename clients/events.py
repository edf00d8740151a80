"""Events of a stream: the server's messages as in docs/protocol.md, and notices of the client itself.

Times are milliseconds of the stream: 0 is the first sample sent. Unknown fields and unknown messages are ignored,
so that a newer server does not break an older client.
"""

from __future__ import annotations

from typing import Any

import msgspec

from clients.errors import StreamError


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """How a session can be continued on another connection, and what the server has received of it."""

    token: str
    keep_s: float = 0.0
    """For which the server keeps the session."""
    resumed: bool = False
    """Whether the session is the one that was asked for."""
    audio_bytes: int = 0
    controls: int = 0
    """Text messages, without that by which the session was resumed."""


class Ready(msgspec.Struct, tag="ready", frozen=True, kw_only=True):
    """The session is open."""

    session: str
    recognizer: str
    model: str
    languages: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    """All options in force."""
    resume: Resumption | None = None
    """None if the session ends with its connection."""


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    seq: int = 0
    """Number of the message in its session; 0 if that can't be resumed."""


class Configured(Numbered, tag="configured", frozen=True, kw_only=True):
    options: dict[str, Any] = {}


class SpeechStarted(Numbered, tag="speech_started", frozen=True, kw_only=True):
    utterance: int
    channel: int = 0
    time_ms: int


class Partial(Numbered, tag="partial", frozen=True, kw_only=True):
    """The text of an utterance so far: `stable + tentative`."""

    utterance: int
    channel: int = 0
    revision: int
    stable: str
    """Only ever extended within an utterance."""
    tentative: str
    """Replaced by each revision; brings its own leading space."""
    language: str | None = None
    start_ms: int
    time_ms: int
    """End of the audio that the text covers."""
    speculative: bool = False
    speaker: int | None = None
    """Who speaks, from 0; None where it is not known. The final may have another."""


class Speaker(Numbered, tag="speaker", frozen=True, kw_only=True):
    """Who is speaking now, as far as it is known."""

    utterance: int
    channel: int = 0
    time_ms: int
    speaker: int


class SpeechResumed(Numbered, tag="speech_resumed", frozen=True, kw_only=True):
    utterance: int
    channel: int = 0
    time_ms: int


class Translation(Numbered, tag="translation", frozen=True, kw_only=True):
    """A final in the language of the option `translate_to`. It comes after the final."""

    utterance: int
    channel: int = 0
    text: str
    language: str


class EagerTurnEnd(Numbered, tag="eager_turn_end", frozen=True, kw_only=True):
    """The turn is probably over; if it is, `text` is its final. Else `TurnResumed` follows."""

    utterance: int
    channel: int = 0
    time_ms: int
    text: str
    probability: float


class TurnResumed(Numbered, tag="turn_resumed", frozen=True, kw_only=True):
    """Speech went on after an `EagerTurnEnd`."""

    utterance: int
    channel: int = 0
    time_ms: int


class SpeechEnded(Numbered, tag="speech_ended", frozen=True, kw_only=True):
    utterance: int
    channel: int = 0
    start_ms: int
    time_ms: int
    reason: str
    probability: float | None = None
    """That the turn is over, if a turn detector judged it."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    start_ms: int
    end_ms: int
    probability: float | None = None
    times_from: str = "recognizer"
    """`recognizer`, `aligner` (a second model found them) or `estimate`."""
    speaker: int | None = None


class Final(Numbered, tag="final", frozen=True, kw_only=True):
    """The text of an utterance; each has exactly one final. Empty if nothing was said."""

    utterance: int
    channel: int = 0
    text: str
    language: str | None = None
    start_ms: int
    time_ms: int
    """Where the utterance ends."""
    confidence: float | None = None
    words: tuple[Word, ...] | None = None
    speaker: int | None = None
    """Of most of the utterance; each of the `words` has its own."""


class Finalized(Numbered, tag="finalized", frozen=True, kw_only=True):
    channel: int = 0
    time_ms: int


class Pong(Numbered, tag="pong", frozen=True, kw_only=True):
    id: str | int | None = None


class ServerWarning(Numbered, tag="warning", frozen=True, kw_only=True):
    code: str
    message: str
    channel: int | None = None
    utterance: int | None = None


class ServerError(Numbered, tag="error", frozen=True, kw_only=True):
    code: str
    message: str
    fatal: bool = False


class Done(Numbered, tag="done", frozen=True, kw_only=True):
    """Everything has its final; the stream ends here."""

    audio_ms: int


ServerEvent = (
    Ready
    | Configured
    | SpeechStarted
    | Partial
    | Speaker
    | SpeechResumed
    | EagerTurnEnd
    | TurnResumed
    | SpeechEnded
    | Final
    | Translation
    | Finalized
    | Pong
    | ServerWarning
    | ServerError
    | Done
)


class Reconnecting(msgspec.Struct, frozen=True, kw_only=True):
    """The connection is lost; the next attempt is in `delay_s`. Partials so far are void."""

    reason: str
    attempt: int
    """From 1; progress of the transcript starts it over."""
    delay_s: float


class Reconnected(msgspec.Struct, frozen=True, kw_only=True):
    """The stream goes on: in the same session, or in a new one that continues where the finals end."""

    resent_ms: int
    """Audio that is sent again: the server has not received it, or it has no final and the session is a new one."""
    lost_ms: int
    """Audio without a final that was discarded, because the outage was longer than what is kept."""
    resumed: bool = False
    """Whether the session is the same."""


class AudioDropped(msgspec.Struct, frozen=True, kw_only=True):
    """Audio that was discarded before it was sent, because the server was too slow or not ready. Times stay right."""

    start_ms: int
    end_ms: int


Notice = Reconnecting | Reconnected | AudioDropped
Event = ServerEvent | Notice


class _Tag(msgspec.Struct):
    type: str


_DECODER = msgspec.json.Decoder(ServerEvent)
_TAGS = msgspec.json.Decoder(_Tag)
_KNOWN = frozenset(kind.__struct_config__.tag for kind in ServerEvent.__args__)


class UnreadableEvent(StreamError):
    """A message is not one that the protocol knows of this name."""


def decode_event(message: str | bytes) -> ServerEvent | None:
    """A text message as an event; None for a kind this client does not know.

    Raises:
        UnreadableEvent: it is not JSON, or a known kind lacks a field.
    """
    try:
        event: ServerEvent = _DECODER.decode(message)
        return event
    except msgspec.DecodeError as error:
        try:
            known = _TAGS.decode(message).type in _KNOWN
        except msgspec.DecodeError:
            known = True
        if known:
            raise UnreadableEvent(f"unreadable message from the server: {error}") from None
        return None
