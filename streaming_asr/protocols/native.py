"""The native protocol: binary audio, JSON controls and events. docs/protocol.md is its description for users.

`Control` and `Message` together are the whole of it.
"""

from __future__ import annotations

import difflib
import reprlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streaming_asr.core import events as core_events
from streaming_asr.core.events import EndReason, Event
from streaming_asr.core.options import CHANGEABLE, OptionError, SessionOptions
from streaming_asr.protocols.base import (
    Audio,
    Close,
    Command,
    Configure,
    Finalize,
    Handshake,
    Open,
    Opened,
    Send,
    Stop,
    assert_never,
)
from streaming_asr.protocols.controls import BINARY_CONTROL, find_control
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage, Reader

# What the client sends, besides audio as binary messages.


class Start(msgspec.Struct, tag="start"):
    """First message, before any audio: its fields beside `type` are options, which replace the query's."""


class SetOptions(msgspec.Struct, tag="configure"):
    """Change options in mid-stream; its fields beside `type` are the options."""


class FinalizeNow(msgspec.Struct, tag="finalize", forbid_unknown_fields=True):
    """End the open utterance now."""


class StopNow(msgspec.Struct, tag="stop", forbid_unknown_fields=True):
    """No more audio follows: transcribe what is pending, send `done`, close."""


class Ping(msgspec.Struct, tag="ping", forbid_unknown_fields=True):
    """Answered by `pong`; also keeps an idle session open."""

    id: str | int | None = None


Control = Start | SetOptions | FinalizeNow | StopNow | Ping

# What the server sends.


class Ready(msgspec.Struct, tag="ready"):
    session: str
    recognizer: str
    model: str
    languages: tuple[str, ...]
    options: dict[str, Any]


class Configured(msgspec.Struct, tag="configured"):
    options: dict[str, Any]


class SpeechStarted(msgspec.Struct, tag="speech_started"):
    utterance: int
    channel: int
    time_ms: int


class Partial(msgspec.Struct, tag="partial"):
    utterance: int
    channel: int
    revision: int
    stable: str
    tentative: str
    language: str | None
    start_ms: int
    time_ms: int
    speculative: bool


class SpeechResumed(msgspec.Struct, tag="speech_resumed"):
    utterance: int
    channel: int
    time_ms: int


class EagerTurnEnd(msgspec.Struct, tag="eager_turn_end"):
    utterance: int
    channel: int
    time_ms: int
    text: str
    probability: float


class TurnResumed(msgspec.Struct, tag="turn_resumed"):
    utterance: int
    channel: int
    time_ms: int


class SpeechEnded(msgspec.Struct, tag="speech_ended"):
    utterance: int
    channel: int
    start_ms: int
    time_ms: int
    reason: EndReason
    probability: float | None


class Word(msgspec.Struct):
    text: str
    start_ms: int
    end_ms: int
    probability: float | None


class Final(msgspec.Struct, tag="final"):
    utterance: int
    channel: int
    text: str
    language: str | None
    start_ms: int
    time_ms: int
    confidence: float | None
    words: tuple[Word, ...] | None


class Finalized(msgspec.Struct, tag="finalized"):
    channel: int
    time_ms: int


class Pong(msgspec.Struct, tag="pong"):
    id: str | int | None


class Warn(msgspec.Struct, tag="warning"):
    code: str
    message: str
    channel: int | None
    utterance: int | None


class Error(msgspec.Struct, tag="error"):
    code: str
    message: str
    fatal: bool
    """Whether the session is over; if not, it continues as if the message had not been sent."""


class Done(msgspec.Struct, tag="done"):
    audio_ms: int


Message = (
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
    | Warn
    | Error
    | Done
)

_HINTS = typing.get_type_hints(SessionOptions)
_READER: Reader[Control] = Reader(Control)
_LONGEST_NAME = 100
"""Characters of an unknown option's name that are looked at for a similar one."""


def parse_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert option values to the types of `SessionOptions`, which checks their ranges.

    Args:
        given: as received. Numbers and booleans may be text, as they are in a query, and whole numbers floats.

    Raises:
        OptionError: an option does not exist, or its value is of the wrong type.
    """
    parsed = {}
    for name, value in given.items():
        if name not in _HINTS:
            near = difflib.get_close_matches(name[:_LONGEST_NAME], _HINTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(sorted(_HINTS))}"
            raise OptionError(name, f"no such option; {hint}")
        try:
            parsed[name] = msgspec.convert(value, _HINTS[name], strict=False)
        except msgspec.ValidationError as error:
            raise OptionError(name, f"{reprlib.repr(value)} is not valid: {error}") from None
    return parsed


class NativeTranslator:
    """One connection that speaks the native protocol.

    Args:
        handshake: its query gives options: `?sample_rate=8000&encoding=mulaw&keyword=Qwen&keyword=Ascend`.
        defaults: the server's, for options that the client does not set.
    """

    def __init__(self, handshake: Handshake, defaults: SessionOptions) -> None:
        self._defaults = defaults
        self._query = handshake.query
        self._audio_received = False
        self._stopped = False

    def connected(self) -> list[Command]:
        given: dict[str, Any] = {}
        for name, value in self._query:
            if name in ("keyword", "keywords"):
                given.setdefault("keywords", []).extend(part.strip() for part in value.split(",") if part.strip())
            elif name not in ("token", "api_key"):
                given[name] = None if value in ("", "null") else value
        return self._open(given)

    def received(self, message: str | bytes) -> list[Command]:
        if self._stopped:
            reason = "The stream has been stopped; open a new connection to send more."
            return self.failed(Failure(FailureKind.STOPPED, reason))
        if isinstance(message, bytes):
            if (control := find_control(message, _READER)) is not None:
                return [BINARY_CONTROL, *self.received(control)]
            self._audio_received = True
            return [Audio(message)]
        try:
            return self._control(_READER.read(message), message)
        except BadMessage as bad:
            kind = FailureKind.BAD_JSON if bad.kind is FailureKind.INVALID_JSON else FailureKind.BAD_MESSAGE
            return self.failed(Failure(kind, bad.message))

    def _control(self, control: Control, message: str) -> list[Command]:
        match control:
            case Start():
                if self._audio_received:
                    reason = "`start` must come before any audio; use `configure` in mid-stream."
                    return self.failed(Failure(FailureKind.LATE_START, reason))
                return self._open(_options_in(message))
            case SetOptions():
                try:
                    return [Configure(parse_options(_options_in(message)))]
                except OptionError as error:
                    return self.failed(Failure(FailureKind.BAD_OPTION, str(error), goes_on=True))
            case Ping(id):
                return [_send(Pong(id))]
            case FinalizeNow():
                return [Finalize()]
            case StopNow():
                self._stopped = True
                return [Stop()]
            case _:
                assert_never(control)

    def _open(self, given: Mapping[str, Any]) -> list[Command]:
        try:
            return [Open(self._defaults.changed(**parse_options(given)))]
        except OptionError as error:
            return self.failed(Failure(FailureKind.BAD_OPTION, str(error)))

    def opened(self, opened: Opened) -> list[Command]:
        can = opened.capabilities
        return [_send(Ready(opened.session, can.name, can.model, can.languages, _as_dict(opened.options)))]

    def configured(self, options: SessionOptions) -> list[Command]:
        return [_send(Configured({name: _as_dict(options)[name] for name in sorted(CHANGEABLE)}))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        commands: list[Command] = []
        for event in events:
            commands.append(_message_for(event))
            if isinstance(event, core_events.Done):
                commands.append(Close(reason="done"))
        return commands

    def failed(self, failure: Failure) -> list[Command]:
        error = _send(Error(failure.code, failure.message, fatal=failure.close is not None))
        return [error] if failure.close is None else [error, Close(failure.close, failure.code)]


def _message_for(event: Event) -> Send:
    match event:
        case core_events.Partial(utterance, channel, revision, stable, tentative, language, start, end, speculative):
            partial = Partial(utterance, channel, revision, stable, tentative, language, start, end, speculative)
            return _send(partial, replaces=utterance)
        case core_events.Final():
            words = None
            if event.words is not None:
                words = tuple(Word(word.text, word.start_ms, word.end_ms, word.probability) for word in event.words)
            return _send(
                Final(
                    event.utterance,
                    event.channel,
                    event.text,
                    event.language,
                    event.start_ms,
                    event.end_ms,
                    event.confidence,
                    words,
                )
            )
        case core_events.SpeechStarted(utterance, channel, start):
            return _send(SpeechStarted(utterance, channel, start))
        case core_events.SpeechEnded(utterance, channel, start, end, reason, probability):
            return _send(SpeechEnded(utterance, channel, start, end, reason, probability))
        case core_events.SpeechResumed(utterance, channel, time):
            return _send(SpeechResumed(utterance, channel, time))
        case core_events.EagerTurnEnd(utterance, channel, end, text, probability):
            return _send(EagerTurnEnd(utterance, channel, end, text, probability))
        case core_events.TurnResumed(utterance, channel, time):
            return _send(TurnResumed(utterance, channel, time))
        case core_events.Finalized(channel, time):
            return _send(Finalized(channel, time))
        case core_events.SessionWarning(code, message, warned_channel, warned_utterance):
            return _send(Warn(code, message, warned_channel, warned_utterance))
        case core_events.Done(audio):
            return _send(Done(audio))
        case _:
            assert_never(event)


def _send(message: Message, replaces: int | None = None) -> Send:
    return Send(msgspec.json.encode(message).decode(), replaces)


def _options_in(message: str) -> dict[str, Any]:
    return {name: value for name, value in _READER.fields(message).items() if name != "type"}


def _as_dict(options: SessionOptions) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(options)
    return shown
