"""The realtime dialect of vLLM: one commit starts the audio, a final one ends it, and all of it is one text."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Audio, Close, Command, Configure, Finalize, Opened, Send, assert_never
from streaming_asr.protocols.controls import BINARY_CONTROL, text_in
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage, Reader
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.openai import items
from streaming_asr.protocols.openai.items import Items
from streaming_asr.protocols.openai.messages import text_of
from streaming_asr.protocols.openai.session import Format, Transcription, format_options, transcription_options

RATE = 16_000
"""Hz, of this dialect's audio."""


class SessionUpdate(msgspec.Struct, tag="session.update"):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class Append(msgspec.Struct, tag="input_audio_buffer.append"):
    audio: bytes
    """base64 on the wire."""


class Commit(msgspec.Struct, tag="input_audio_buffer.commit"):
    final: bool = False
    """Whether it ends the audio; else it starts it."""


_READER: Reader[SessionUpdate | Append | Commit] = Reader(SessionUpdate | Append | Commit)


class Delta(msgspec.Struct, tag="transcription.delta"):
    delta: str


class Usage(msgspec.Struct):
    completion_tokens: int
    """0 if the recognizer does not report them."""
    total_tokens: int
    prompt_tokens: int = 0


class Done(msgspec.Struct, tag="transcription.done"):
    text: str
    usage: Usage


class Error(msgspec.Struct, tag="error"):
    error: str
    code: str


class _FirstMessage(msgspec.Struct):
    """The fields of a first message that identify the dialect."""

    type: str = ""
    session: object = None
    model: object = None


def is_vllm(first: str | bytes, *, named: bool) -> bool:
    """Whether a connection's first message is of this dialect.

    Args:
        named: whether the query names a model or an intent, as no client of vLLM does.
    """
    try:
        message = msgspec.json.decode(first, type=_FirstMessage)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    if message.type == "session.update":
        return message.session is None and message.model is not None
    return message.type == "input_audio_buffer.commit" and not named


class VllmTranslator:
    """Takes over a connection whose session is open, when its first message arrives."""

    def __init__(self, defaults: SessionOptions, models: ModelNames) -> None:
        self._defaults = defaults
        self._models = models
        self._items = Items(by_pauses=False)

    def connected(self) -> list[Command]:
        return [Configure({**format_options(Format("audio/pcm", RATE)), "endpoint_ms": self._defaults.endpoint_ms})]

    def received(self, message: str | bytes) -> list[Command]:
        if isinstance(message, bytes) and (text := text_in(message)) is not None:
            return [BINARY_CONTROL, *self.received(text)]
        try:
            request = _READER.read(text_of(message))
        except BadMessage as bad:
            return [_send(Error(bad.message, bad.kind.code))]
        match request:
            case Append(audio):
                return [Audio(audio)]
            case SessionUpdate():
                return self._update(request)
            case Commit(final):
                return self._commit() if final else []
            case _:
                assert_never(request)

    def _commit(self) -> list[Command]:
        self._items.commit()
        return [Finalize()]

    def _update(self, asked: SessionUpdate) -> list[Command]:
        if asked.model is not None and not self._models.serves(asked.model):
            return [_send(Error(self._models.unknown(asked.model), FailureKind.MODEL_NOT_FOUND.code))]
        given = Transcription(language=asked.language, prompt=asked.prompt)
        return [Configure(transcription_options(given, self._defaults))]

    def opened(self, opened: Opened) -> list[Command]:
        return []

    def configured(self, options: SessionOptions) -> list[Command]:
        return []

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return self._messages_for(self._items.on_events(events))

    def failed(self, failure: Failure) -> list[Command]:
        error = _send(Error(failure.message, failure.code))
        if failure.close is None:
            return [error]
        return [*self._messages_for(self._items.close()), error, Close(failure.close, failure.code)]

    def _messages_for(self, events: Sequence[items.ItemEvent]) -> list[Command]:
        return [_send(message) for event in events for message in self._messages(event)]

    def _messages(self, event: items.ItemEvent) -> list[Delta | Done]:
        match event:
            case items.Grown():
                return [Delta(event.delta)] if event.delta else []
            case items.Settled():
                tokens = len(event.logprobs or ())
                return [Done(event.text, Usage(tokens, tokens))]
            case items.Started() | items.Stopped() | items.Committed():
                return []  # The dialect has no messages for these.
            case _:
                assert_never(event)


def _send(message: Delta | Done | Error) -> Send:
    return Send(msgspec.json.encode(message).decode())
