"""The realtime dialect of vLLM: one commit starts the audio, a final one ends it, and all of it is one text.

That of vLLM 0.33 (``vllm/entrypoints/speech_to_text/realtime``), and what is in development for later releases:
`session.updated`, log-probabilities in deltas (pull request 58047) and an idle timeout (46926).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import (
    Audio,
    Close,
    Command,
    Configure,
    Finalize,
    Lifetime,
    Opened,
    Send,
    assert_never,
)
from streaming_asr.protocols.controls import BINARY_CONTROL, text_in
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage, Reader
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.openai import items
from streaming_asr.protocols.openai.items import Items
from streaming_asr.protocols.openai.messages import Logprob, text_of
from streaming_asr.protocols.openai.session import (
    LOGPROBS,
    Format,
    Transcription,
    format_options,
    transcription_options,
)

RATE = 16_000
"""Hz, of this dialect's audio."""
_CODES = {
    FailureKind.UNKNOWN_TYPE: "unknown_event",
    FailureKind.INVALID_MESSAGE: "invalid_event",
    FailureKind.INVALID_VALUE: "invalid_event",
    FailureKind.BAD_OPTION: "invalid_event",
    FailureKind.IDLE: "idle_timeout",
    FailureKind.DECODE_FAILED: "processing_error",
    FailureKind.INTERNAL: "processing_error",
}
"""vLLM's codes of failures, where they differ from ours."""


class SessionUpdate(msgspec.Struct, tag="session.update"):
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None


class Append(msgspec.Struct, tag="input_audio_buffer.append"):
    audio: bytes
    """base64 on the wire."""


class Commit(msgspec.Struct, tag="input_audio_buffer.commit"):
    final: bool = False
    """Whether it ends the audio; else it starts it."""


_READER: Reader[SessionUpdate | Append | Commit] = Reader(SessionUpdate | Append | Commit)


class SessionUpdated(msgspec.Struct, tag="session.updated"):
    """What is in force."""

    model: str | None
    language: str | None
    prompt: str
    include: list[str]
    timestamp_granularities: list[str] = []
    """None are offered."""


class Delta(msgspec.Struct, tag="transcription.delta"):
    delta: str
    logprobs: list[Logprob] | None = None
    """Of its tokens, if the client asked for them and the recognizer knows them."""


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
        self._model: str | None = None
        """As the client named it."""
        self._refused = False
        """Whether the client named another model last."""
        self._include: list[str] = []
        self._configuring: deque[SessionUpdate | None] = deque()
        """The updates whose options are being set, oldest first; None for the dialect's own."""

    def connected(self) -> list[Command]:
        options = {**format_options(Format("audio/pcm", RATE)), "endpoint_ms": self._defaults.endpoint_ms}
        self._configuring.append(None)
        # The server's own idle timeout: OpenAI's, which is longer, was set before the dialect was known.
        return [Lifetime(life_s=None, idle_s=0), Configure(options)]

    def received(self, message: str | bytes) -> list[Command]:
        if isinstance(message, bytes) and (text := text_in(message)) is not None:
            return [BINARY_CONTROL, *self.received(text)]
        try:
            request = _READER.read(text_of(message))
        except BadMessage as bad:
            return [_error(bad.kind, bad.message)]
        match request:
            case Append(audio):
                return [] if self._refused else [Audio(audio)]
            case SessionUpdate():
                return self._update(request)
            case Commit(final):
                if self._refused:
                    message = "Send session.update with a model that is served before a commit."
                    return [_send(Error(message, "model_not_validated"))]
                return self._commit() if final else []
            case _:
                assert_never(request)

    def _commit(self) -> list[Command]:
        self._items.commit()
        return [Finalize()]

    def _update(self, asked: SessionUpdate) -> list[Command]:
        if asked.model is not None:
            self._refused = not self._models.serves(asked.model)
            if self._refused:
                return [_error(FailureKind.MODEL_NOT_FOUND, self._models.unknown(asked.model))]
        self._configuring.append(asked)
        given = Transcription(language=asked.language, prompt=asked.prompt)
        return [Configure(transcription_options(given, self._defaults))]

    def opened(self, opened: Opened) -> list[Command]:
        return []

    def configured(self, options: SessionOptions) -> list[Command]:
        asked = self._configuring.popleft() if self._configuring else None
        if asked is None:
            return []
        self._model = asked.model or self._model
        if asked.include is not None:
            self._include = list(asked.include)
        return [_send(SessionUpdated(self._model, options.language, options.context, self._include))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return self._messages_for(self._items.on_events(events))

    def failed(self, failure: Failure) -> list[Command]:
        error = _error(failure.kind, failure.message)
        if failure.close is None:
            if failure.kind is FailureKind.BAD_OPTION and self._configuring:
                self._configuring.popleft()
            return [error]
        return [*self._messages_for(self._items.close()), error, Close(failure.close, failure.code)]

    def _messages_for(self, events: Sequence[items.ItemEvent]) -> list[Command]:
        return [_send(message) for event in events for message in self._messages(event)]

    def _messages(self, event: items.ItemEvent) -> list[Delta | Done | Error]:
        match event:
            case items.Grown():
                return [Delta(event.delta, self._logprobs(event))] if event.delta else []
            case items.Settled(failed=True):
                return [Error("The recognizer failed on this audio.", _CODES[FailureKind.DECODE_FAILED])]
            case items.Settled():
                tokens = len(event.logprobs or ())
                return [Done(event.text, Usage(tokens, tokens))]
            case items.Started() | items.Stopped() | items.Committed():
                return []  # The dialect has no messages for these.
            case _:
                assert_never(event)

    def _logprobs(self, event: items.Grown) -> list[Logprob] | None:
        if LOGPROBS not in self._include or event.logprobs is None:
            return None
        return [Logprob(token, list(token.encode()), logprob) for token, logprob in event.logprobs]


def _error(kind: FailureKind, message: str) -> Send:
    return _send(Error(message, _CODES.get(kind, kind.code)))


def _send(message: SessionUpdated | Delta | Done | Error) -> Send:
    return Send(msgspec.json.encode(message).decode())
