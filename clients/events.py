"""Events of a stream: the server's messages as in docs/protocol.md, and notices of the client itself.

Times are milliseconds of the stream: 0 is the first sample sent. Unknown fields and unknown messages are ignored,
so that a newer server does not break an older client.
"""

from __future__ import annotations

from typing import Any

import msgspec

from clients.errors import StreamError


class Ready(msgspec.Struct, tag="ready", frozen=True, kw_only=True):
    """The session is open."""

    session: str
    recognizer: str
    model: str
    languages: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    """All options in force."""


class Configured(msgspec.Struct, tag="configured", frozen=True, kw_only=True):
    options: dict[str, Any] = {}


class SpeechStarted(msgspec.Struct, tag="speech_started", frozen=True, kw_only=True):
    utterance: int
    channel: int = 0
    time_ms: int


class Partial(msgspec.Struct, tag="partial", frozen=True, kw_only=True):
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


class SpeechResumed(msgspec.Struct, tag="speech_resumed", frozen=True, kw_only=True):
    utterance: int
    channel: int = 0
    time_ms: int


class EagerTurnEnd(msgspec.Struct, tag="eager_turn_end", frozen=True, kw_only=True):
    """The turn is probably over; if it is, `text` is its final. Else `TurnResumed` follows."""

    utterance: int
    channel: int = 0
    time_ms: int
    text: str
    probability: float


class TurnResumed(msgspec.Struct, tag="turn_resumed", frozen=True, kw_only=True):
    """Speech went on after an `EagerTurnEnd`."""

    utterance: int
    channel: int = 0
    time_ms: int


class SpeechEnded(msgspec.Struct, tag="speech_ended", frozen=True, kw_only=True):
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


class Final(msgspec.Struct, tag="final", frozen=True, kw_only=True):
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


class Finalized(msgspec.Struct, tag="finalized", frozen=True, kw_only=True):
    channel: int = 0
    time_ms: int


class Pong(msgspec.Struct, tag="pong", frozen=True, kw_only=True):
    id: str | int | None = None


class ServerWarning(msgspec.Struct, tag="warning", frozen=True, kw_only=True):
    code: str
    message: str
    channel: int | None = None
    utterance: int | None = None


class ServerError(msgspec.Struct, tag="error", frozen=True, kw_only=True):
    code: str
    message: str
    fatal: bool = False


class Done(msgspec.Struct, tag="done", frozen=True, kw_only=True):
    """Everything has its final; the stream ends here."""

    audio_ms: int


ServerEvent = (
    Ready
    | Configured
    | SpeechStarted
    | Partial
    | SpeechResumed
    | EagerTurnEnd
    | TurnResumed
    | SpeechEnded
    | Final
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
    """A new session continues where the finals end."""

    resent_ms: int
    """Audio that is sent again, because it has no final yet."""
    lost_ms: int
    """Audio without a final that was discarded, because the outage was longer than what is kept."""


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
