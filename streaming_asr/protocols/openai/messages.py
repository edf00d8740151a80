"""Messages of OpenAI's realtime protocol, as far as transcription needs them.

Taken from the types of the `openai` package 3.54.0.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from streaming_asr.protocols.base import assert_never
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage, Reader
from streaming_asr.protocols.openai import items
from streaming_asr.protocols.openai.session import Session

# What the client sends.


class SessionUpdate(msgspec.Struct, tag="session.update"):
    session: Session
    event_id: str | None = None


class TranscriptionSessionUpdate(msgspec.Struct, tag="transcription_session.update"):
    """Of the beta."""

    session: Session
    event_id: str | None = None


class Append(msgspec.Struct, tag="input_audio_buffer.append"):
    audio: bytes
    """base64 on the wire."""
    event_id: str | None = None


class Commit(msgspec.Struct, tag="input_audio_buffer.commit"):
    event_id: str | None = None


class Clear(msgspec.Struct, tag="input_audio_buffer.clear"):
    event_id: str | None = None


ClientMessage = SessionUpdate | TranscriptionSessionUpdate | Append | Commit | Clear


READER: Reader[ClientMessage] = Reader(ClientMessage)


def text_of(message: str | bytes) -> str:
    """A client's message as text.

    Raises:
        BadMessage: it is binary.
    """
    if isinstance(message, str):
        return message
    reason = "Messages must be text, with audio as base64 in `input_audio_buffer.append`; this one is binary."
    raise BadMessage(FailureKind.INVALID_MESSAGE, reason)


# What the server sends.


class SessionCreated(msgspec.Struct, tag="session.created"):
    event_id: str
    session: dict[str, Any]
    id: str
    """Here, as `created` and not in `session`, it is read by clients of vLLM."""
    created: int


class SessionUpdated(msgspec.Struct, tag="session.updated"):
    event_id: str
    session: dict[str, Any]


class TranscriptionSessionUpdated(msgspec.Struct, tag="transcription_session.updated"):
    """Of the beta."""

    event_id: str
    session: dict[str, Any]


class SpeechStarted(msgspec.Struct, tag="input_audio_buffer.speech_started"):
    event_id: str
    audio_start_ms: int
    item_id: str


class SpeechStopped(msgspec.Struct, tag="input_audio_buffer.speech_stopped"):
    event_id: str
    audio_end_ms: int
    item_id: str


class Committed(msgspec.Struct, tag="input_audio_buffer.committed"):
    event_id: str
    item_id: str
    previous_item_id: str | None


class Cleared(msgspec.Struct, tag="input_audio_buffer.cleared"):
    event_id: str


class InputAudio(msgspec.Struct, tag="input_audio"):
    transcript: str | None = None


class ItemObject(msgspec.Struct, tag="message"):
    id: str
    object: Literal["realtime.item"] = "realtime.item"
    role: Literal["user"] = "user"
    status: Literal["completed"] = "completed"
    content: list[InputAudio] = msgspec.field(default_factory=lambda: [InputAudio()])


class ItemAdded(msgspec.Struct, tag="conversation.item.added"):
    event_id: str
    previous_item_id: str | None
    item: ItemObject


class ItemDone(msgspec.Struct, tag="conversation.item.done"):
    event_id: str
    previous_item_id: str | None
    item: ItemObject


class ItemCreated(msgspec.Struct, tag="conversation.item.created"):
    """Of the beta."""

    event_id: str
    previous_item_id: str | None
    item: ItemObject


class Logprob(msgspec.Struct):
    token: str
    bytes: list[int]
    logprob: float


class Delta(msgspec.Struct, tag="conversation.item.input_audio_transcription.delta"):
    event_id: str
    item_id: str
    delta: str
    content_index: int = 0
    transcript: str | UnsetType = UNSET
    """All of the item's text so far, for Together's clients."""


class Usage(msgspec.Struct, tag="duration"):
    seconds: float


class Language(msgspec.Struct):
    code: str


class Completed(msgspec.Struct, tag="conversation.item.input_audio_transcription.completed"):
    event_id: str
    item_id: str
    transcript: str
    usage: Usage
    content_index: int = 0
    languages: list[Language] | UnsetType = UNSET
    logprobs: list[Logprob] | UnsetType = UNSET


class ErrorDetails(msgspec.Struct):
    type: str
    code: str
    message: str
    param: str | None = None
    event_id: str | None = None
    """Of the client's message."""


class Failed(msgspec.Struct, tag="conversation.item.input_audio_transcription.failed"):
    event_id: str
    item_id: str
    error: ErrorDetails
    content_index: int = 0


class Error(msgspec.Struct, tag="error"):
    event_id: str
    error: ErrorDetails


ServerMessage = (
    SessionCreated
    | SessionUpdated
    | TranscriptionSessionUpdated
    | SpeechStarted
    | SpeechStopped
    | Committed
    | Cleared
    | ItemAdded
    | ItemDone
    | ItemCreated
    | Delta
    | Completed
    | Failed
    | Error
)

LIFE_S = 3600
"""Of a session."""
IDLE_S = 900
"""Some clients keep a pool of connections, silent for minutes."""


class MessageFactory:
    """Makes the messages that the dialects share, and the ids of a connection's events, items and session."""

    def __init__(self) -> None:
        self.session_id = ""
        self._session = ""
        self._events = itertools.count(1)

    def opened(self, session: str) -> None:
        """Take the session's key."""
        self._session = session
        self.session_id = f"sess_{session}"

    def event(self) -> str:
        """The next event's id."""
        return f"event_{next(self._events)}"

    def item(self, number: int) -> str:
        """An item's id."""
        return f"item_{self._session}_{number}"

    def speech(self, event: items.Started | items.Stopped) -> SpeechStarted | SpeechStopped:
        match event:
            case items.Started(number, time_ms):
                return SpeechStarted(self.event(), time_ms, self.item(number))
            case items.Stopped(number, time_ms):
                return SpeechStopped(self.event(), time_ms, self.item(number))
            case _:
                assert_never(event)

    def committed(self, event: items.Committed, *, beta: bool) -> list[ServerMessage]:
        item = self.item(event.item)
        previous = None if event.previous is None else self.item(event.previous)
        shown = ItemObject(item)
        messages: list[ServerMessage] = [Committed(self.event(), item, previous)]
        if beta:
            return [*messages, ItemCreated(self.event(), previous, shown)]
        return [*messages, ItemAdded(self.event(), previous, shown), ItemDone(self.event(), previous, shown)]

    def failed_item(self, event: items.Settled) -> Failed:
        failure = Failure(FailureKind.DECODE_FAILED, "The recognizer failed on this item.")
        return Failed(self.event(), self.item(event.item), _details(failure))

    def bad_message(self, bad: BadMessage) -> Error:
        return self.error(Failure(bad.kind, bad.message), param=bad.param, event_id=bad.event_id)

    def error(self, failure: Failure, *, param: str | None = None, event_id: str | None = None) -> Error:
        return Error(self.event(), _details(failure, param, event_id))


def _details(failure: Failure, param: str | None = None, event_id: str | None = None) -> ErrorDetails:
    kind = "server_error" if failure.kind.server_error else "invalid_request_error"
    named = FailureKind.INVALID_VALUE if failure.kind is FailureKind.BAD_OPTION else failure.kind
    return ErrorDetails(kind, named.code, failure.message, param, event_id)
