"""The native protocol: binary audio, JSON controls and events. docs/protocol.md is its description for users.

`Control` and `Message` together are the whole of it.
"""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streaming_asr.core import events as core_events
from streaming_asr.core.events import EndReason, Event
from streaming_asr.core.options import CHANGEABLE, OptionError, SessionOptions
from streaming_asr.core.recognizer import TimesFrom
from streaming_asr.protocols.base import (
    Audio,
    Claim,
    Close,
    Command,
    Configure,
    Finalize,
    Handshake,
    Open,
    Opened,
    Resumable,
    Send,
    Stop,
    assert_never,
)
from streaming_asr.protocols.controls import BINARY_CONTROL, find_control
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage, Reader
from streaming_asr.protocols.sent_messages import SentMessages

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


class Resume(msgspec.Struct, tag="resume", forbid_unknown_fields=True):
    """First message of a connection with `resume=claim`: continue the session of this token."""

    token: str
    seq: int
    """Of the last message received in that session; 0 if none was."""


Control = Start | SetOptions | FinalizeNow | StopNow | Ping | Resume

# What the server sends.


class Resumption(msgspec.Struct):
    """How the session can be resumed, and what the server has received of it."""

    token: str
    keep_s: float
    """For which the session is kept without a connection."""
    resumed: bool
    audio_bytes: int
    controls: int
    """Text messages received, without `resume`."""


class Ready(msgspec.Struct, tag="ready"):
    session: str
    recognizer: str
    model: str
    languages: tuple[str, ...]
    options: dict[str, Any]
    resume: Resumption | msgspec.UnsetType = msgspec.UNSET
    """Absent if the session ends with its connection."""


class Numbered(msgspec.Struct, kw_only=True):
    seq: int | msgspec.UnsetType = msgspec.UNSET
    """Number of the message in a session that can be resumed, from 1."""


class Configured(Numbered, tag="configured"):
    options: dict[str, Any]


class SpeechStarted(Numbered, tag="speech_started"):
    utterance: int
    channel: int
    time_ms: int


class Partial(Numbered, tag="partial"):
    utterance: int
    channel: int
    revision: int
    stable: str
    tentative: str
    language: str | None
    start_ms: int
    time_ms: int
    speculative: bool
    speaker: int | msgspec.UnsetType = msgspec.UNSET
    """Absent, as in all messages, where it is not known."""


class Speaker(Numbered, tag="speaker"):
    utterance: int
    channel: int
    time_ms: int
    speaker: int


class SpeechResumed(Numbered, tag="speech_resumed"):
    utterance: int
    channel: int
    time_ms: int


class Translation(Numbered, tag="translation"):
    utterance: int
    channel: int
    text: str
    language: str


class EagerTurnEnd(Numbered, tag="eager_turn_end"):
    utterance: int
    channel: int
    time_ms: int
    text: str
    probability: float


class TurnResumed(Numbered, tag="turn_resumed"):
    utterance: int
    channel: int
    time_ms: int


class SpeechEnded(Numbered, tag="speech_ended"):
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
    times_from: TimesFrom
    speaker: int | msgspec.UnsetType = msgspec.UNSET


class Final(Numbered, tag="final"):
    utterance: int
    channel: int
    text: str
    language: str | None
    start_ms: int
    time_ms: int
    confidence: float | None
    words: tuple[Word, ...] | None
    speaker: int | msgspec.UnsetType = msgspec.UNSET


class Finalized(Numbered, tag="finalized"):
    channel: int
    time_ms: int


class Pong(Numbered, tag="pong"):
    id: str | int | None


class Warn(Numbered, tag="warning"):
    code: str
    message: str
    channel: int | None
    utterance: int | None


class Error(Numbered, tag="error"):
    code: str
    message: str
    fatal: bool
    """Whether the session is over; if not, it continues as if the message had not been sent."""


class Done(Numbered, tag="done"):
    audio_ms: int


NumberedMessage = (
    Configured
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
    | Warn
    | Error
    | Done
)
Message = Ready | NumberedMessage

_HINTS = typing.get_type_hints(SessionOptions)
_READER: Reader[Control] = Reader(Control)
_LONGEST_NAME = 100
"""Characters of an unknown option's name that are looked at for a similar one."""


_LISTS = ("keywords", "redact", "replace")
"""Options with several values, which a query gives by repeating them."""


def _listed(name: str, value: str) -> list[str]:
    """The values in a text: separated by commas, which a replacement may contain."""
    values = [value] if name == "replace" else value.split(",")
    return [part.strip() for part in values if part.strip()]


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
        if name in _LISTS and isinstance(value, str):
            value = _listed(name, value)
        try:
            parsed[name] = msgspec.convert(value, _HINTS[name], strict=False)
        except msgspec.ValidationError as error:
            raise OptionError(name, f"{reprlib.repr(value)} is not valid: {error}") from None
    return parsed


class NativeTranslator:
    """One connection that speaks the native protocol, or several, one after the other, of a session that outlives them.

    Args:
        handshake: its query gives options: `?sample_rate=8000&encoding=mulaw&keyword=Qwen&keyword=Ascend`.
        defaults: the server's, for options that the client does not set.
    """

    def __init__(self, handshake: Handshake, defaults: SessionOptions) -> None:
        self._defaults = defaults
        self._query = handshake.query
        self._resume_token = handshake.resume_token
        self._resume_s = handshake.resume_s
        self._opened: Opened | None = None
        self._sent: SentMessages | None = None
        """None if the session ends with its connection."""
        self._first: list[Command] | None = None
        """What to do if the session that the first message names is gone; None once that message came, or if the
        client does not resume one."""
        self._audio_bytes = 0
        self._controls = 0
        self._stopped = False

    @property
    def size(self) -> int:
        return 0 if self._sent is None else self._sent.size

    def connected(self) -> list[Command]:
        given: dict[str, Any] = {}
        resume: str | None = None
        for name, value in self._query:
            if name in ("keyword", *_LISTS):
                name = "keywords" if name == "keyword" else name
                given.setdefault(name, []).extend(_listed(name, value))
            elif name == "resume":
                resume = value
            elif name not in ("token", "api_key"):
                given[name] = None if value in ("", "null") else value
        if resume not in (None, "offer", "claim"):
            reason = f"resume: {reprlib.repr(resume)} is not allowed; allowed are offer and claim"
            return self.failed(Failure(FailureKind.BAD_OPTION, reason))
        if resume is not None and self._resume_s:
            self._sent = SentMessages()
        if resume != "claim":
            return self._open(given)
        self._first = self._open(given)
        return []

    def received(self, message: str | bytes) -> list[Command]:
        if self._first is not None:
            return self._claim(message, self._first)
        if isinstance(message, bytes):
            if (control := find_control(message, _READER)) is not None:
                return [BINARY_CONTROL, *self.received(control)]
            self._audio_bytes += len(message)
        else:
            self._controls += 1
        if self._stopped:
            reason = "The stream has been stopped; open a new connection to send more."
            return self.failed(Failure(FailureKind.STOPPED, reason))
        if isinstance(message, bytes):
            return [Audio(message)]
        try:
            return self._control(_READER.read(message), message)
        except BadMessage as bad:
            return self.failed(_failure(bad))

    def _claim(self, message: str | bytes, otherwise: list[Command]) -> list[Command]:
        reason = "With `resume=claim` the first message is `resume`, with the token and the last `seq` received."
        if isinstance(message, bytes):
            return self.failed(Failure(FailureKind.BAD_MESSAGE, reason))
        try:
            control = _READER.read(message)
        except BadMessage as bad:
            return self.failed(_failure(bad))
        if not isinstance(control, Resume):
            return self.failed(Failure(FailureKind.BAD_MESSAGE, reason))
        self._first = None
        return [Claim(control.token, control.seq, tuple(otherwise))]

    def _control(self, control: Control, message: str) -> list[Command]:
        match control:
            case Start():
                if self._audio_bytes:
                    reason = "`start` must come before any audio; use `configure` in mid-stream."
                    return self.failed(Failure(FailureKind.LATE_START, reason))
                return self._open(_options_in(message))
            case SetOptions():
                try:
                    return [Configure(parse_options(_options_in(message)))]
                except OptionError as error:
                    return self.failed(Failure(FailureKind.BAD_OPTION, str(error), goes_on=True))
            case Ping(id):
                return [self._send(Pong(id))]
            case FinalizeNow():
                return [Finalize()]
            case StopNow():
                self._stopped = True
                return [Stop()]
            case Resume():
                reason = "`resume` is the first message of a connection with `resume=claim` in its query."
                return self.failed(Failure(FailureKind.BAD_MESSAGE, reason))
            case _:
                assert_never(control)

    def _open(self, given: Mapping[str, Any]) -> list[Command]:
        try:
            return [Open(self._defaults.changed(**parse_options(given)))]
        except OptionError as error:
            return self.failed(Failure(FailureKind.BAD_OPTION, str(error)))

    def opened(self, opened: Opened) -> list[Command]:
        self._opened = opened
        ready = self._ready(opened, resumed=False)
        return [ready] if self._sent is None else [Resumable(self._resume_token, self), ready]

    def resumed(self, seen: int) -> list[Send | Close] | None:
        missed = self._sent.since(seen) if self._sent is not None else None
        if missed is None or self._opened is None:
            return None
        return [self._ready(self._opened, resumed=True), *missed]

    def _ready(self, opened: Opened, *, resumed: bool) -> Send:
        can = opened.capabilities
        ready = Ready(opened.session, can.name, can.model, can.languages, _as_dict(opened.options))
        if self._sent is not None:
            received = self._audio_bytes, self._controls
            ready.resume = Resumption(self._resume_token, self._resume_s, resumed, *received)
        return _encoded(ready)

    def configured(self, options: SessionOptions) -> list[Command]:
        if self._opened is not None:
            self._opened = dataclasses.replace(self._opened, options=options)
        return [self._send(Configured({name: _as_dict(options)[name] for name in sorted(CHANGEABLE)}))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        commands: list[Command] = []
        for event in events:
            replaces = event.utterance if isinstance(event, core_events.Partial) else None
            if self._sent is not None and isinstance(event, core_events.Final):
                self._sent.forget_partial(event.utterance)
            commands.append(self._send(_message_for(event), replaces))
            if isinstance(event, core_events.Done):
                commands.append(self._close(Close(reason="done")))
        return commands

    def failed(self, failure: Failure) -> list[Command]:
        error = self._send(Error(failure.code, failure.message, fatal=failure.close is not None))
        return [error] if failure.close is None else [error, self._close(Close(failure.close, failure.code))]

    def _send(self, message: NumberedMessage, replaces: int | None = None) -> Send:
        if self._sent is None:
            return _encoded(message, replaces)
        number = message.seq = self._sent.take_number()
        encoded = _encoded(message, replaces)
        self._sent.add(number, encoded)
        return encoded

    def _close(self, close: Close) -> Close:
        if self._sent is not None:
            self._sent.add_close(close)
        return close


def _failure(bad: BadMessage) -> Failure:
    kind = FailureKind.BAD_JSON if bad.kind is FailureKind.INVALID_JSON else FailureKind.BAD_MESSAGE
    return Failure(kind, bad.message)


def _message_for(event: Event) -> NumberedMessage:
    match event:
        case core_events.Partial(utterance, channel, revision, stable, tentative, language, start, end, speculative):
            partial = Partial(utterance, channel, revision, stable, tentative, language, start, end, speculative)
            partial.speaker = _known(event.speaker)
            return partial
        case core_events.SpeakerIdentified(utterance, channel, speaker, time):
            return Speaker(utterance, channel, time, speaker)
        case core_events.Final():
            words = None
            if event.words is not None:
                words = tuple(
                    Word(word.text, word.start_ms, word.end_ms, word.probability, word.times_from, _known(word.speaker))
                    for word in event.words
                )
            return Final(
                event.utterance,
                event.channel,
                event.text,
                event.language,
                event.start_ms,
                event.end_ms,
                event.confidence,
                words,
                _known(event.speaker),
            )
        case core_events.SpeechStarted(utterance, channel, start):
            return SpeechStarted(utterance, channel, start)
        case core_events.SpeechEnded(utterance, channel, start, end, reason, probability):
            return SpeechEnded(utterance, channel, start, end, reason, probability)
        case core_events.SpeechResumed(utterance, channel, time):
            return SpeechResumed(utterance, channel, time)
        case core_events.EagerTurnEnd(utterance, channel, end, text, probability):
            return EagerTurnEnd(utterance, channel, end, text, probability)
        case core_events.TurnResumed(utterance, channel, time):
            return TurnResumed(utterance, channel, time)
        case core_events.Translation(utterance, channel, text, language):
            return Translation(utterance, channel, text, language)
        case core_events.Finalized(channel, time):
            return Finalized(channel, time)
        case core_events.SessionWarning(code, message, warned_channel, warned_utterance):
            return Warn(code, message, warned_channel, warned_utterance)
        case core_events.Done(audio):
            return Done(audio)
        case _:
            assert_never(event)


def _known(speaker: int | None) -> int | msgspec.UnsetType:
    return msgspec.UNSET if speaker is None else speaker


def _encoded(message: Message, replaces: int | None = None) -> Send:
    return Send(msgspec.json.encode(message).decode(), replaces)


def _options_in(message: str) -> dict[str, Any]:
    return {name: value for name, value in _READER.fields(message).items() if name != "type"}


def _as_dict(options: SessionOptions) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(options)
    return shown
