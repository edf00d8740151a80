"""The realtime protocol of Alibaba Cloud's DashScope, as its `OmniRealtimeConversation` speaks it to Qwen3-ASR.

Much like OpenAI's beta. What differs is the text during speech (`text` and `stash`; each message replaces the last) and
an orderly end (`session.finish`). Taken from the `dashscope` package 2.0.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from streaming_asr.core.events import Done, Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import (
    Audio,
    Clear,
    Close,
    Command,
    Configure,
    Finalize,
    Handshake,
    Lifetime,
    Open,
    Opened,
    Send,
    Stop,
    assert_never,
)
from streaming_asr.protocols.controls import BINARY_CONTROL, text_in
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage, Reader
from streaming_asr.protocols.openai import items
from streaming_asr.protocols.openai import messages as openai
from streaming_asr.protocols.openai.items import Items
from streaming_asr.protocols.openai.session import (
    Format,
    Transcription,
    TurnDetection,
    format_options,
    merged,
    transcription_options,
    turn_options,
)

RATE = 16_000
"""Hz, of audio whose rate is not named."""
_THRESHOLD = 0.2
"""Of its -1..1, where its default lies."""


class Corpus(msgspec.Struct):
    text: str | None = None


class InputTranscription(msgspec.Struct):
    language: str | UnsetType | None = UNSET
    corpus: Corpus | UnsetType | None = UNSET


class InputFormat(msgspec.Struct):
    type: str | UnsetType = UNSET
    sample_rate: int | UnsetType = UNSET


class AudioInput(msgspec.Struct):
    format: InputFormat | UnsetType = UNSET


class SessionAudio(msgspec.Struct):
    input: AudioInput | UnsetType = UNSET


class Session(msgspec.Struct):
    """What it does not name is ignored."""

    input_audio_format: str | UnsetType | None = UNSET
    sample_rate: int | UnsetType | None = UNSET
    audio: SessionAudio | UnsetType = UNSET
    input_audio_transcription: InputTranscription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class SessionUpdate(msgspec.Struct, tag="session.update"):
    session: Session
    event_id: str | None = None


class SessionFinish(msgspec.Struct, tag="session.finish"):
    event_id: str | None = None


_READER: Reader[SessionUpdate | SessionFinish | openai.Append | openai.Commit | openai.Clear] = Reader(
    SessionUpdate | SessionFinish | openai.Append | openai.Commit | openai.Clear
)


class SessionCreated(msgspec.Struct, tag="session.created"):
    event_id: str
    session: dict[str, Any]


class SessionUpdated(msgspec.Struct, tag="session.updated"):
    event_id: str
    session: dict[str, Any]


class SessionFinished(msgspec.Struct, tag="session.finished"):
    event_id: str


class Text(msgspec.Struct, tag="conversation.item.input_audio_transcription.text"):
    """All of the item's text so far."""

    event_id: str
    item_id: str
    text: str
    """Stable."""
    stash: str
    """May still change."""
    language: str | None
    content_index: int = 0
    emotion: str = "neutral"
    """Not recognized; its clients expect the field."""


class Completed(msgspec.Struct, tag="conversation.item.input_audio_transcription.completed"):
    event_id: str
    item_id: str
    transcript: str
    language: str | None
    usage: openai.Usage
    content_index: int = 0
    emotion: str = "neutral"


ServerMessage = openai.ServerMessage | SessionCreated | SessionUpdated | SessionFinished | Text | Completed


class DashScopeTranslator:
    """One connection.

    Args:
        handshake: its query may name a `model`.
        defaults: the server's, for what the client does not set.
    """

    def __init__(self, handshake: Handshake, defaults: SessionOptions) -> None:
        self._defaults = defaults
        self._model = dict(handshake.query).get("model", "")
        self._models = handshake.models
        self._session = Session(
            input_audio_format="pcm",
            sample_rate=RATE,
            input_audio_transcription=InputTranscription(),
            turn_detection=_default_turn(defaults),
        )
        self._updating: tuple[SessionUpdate, Session] | None = None
        self._items = Items(by_pauses=True)
        self._factory = openai.MessageFactory()

    def connected(self) -> list[Command]:
        if self._model and not self._models.takes(self._model):
            return self.failed(Failure(FailureKind.MODEL_NOT_FOUND, self._models.unknown(self._model)))
        return [
            Lifetime(openai.LIFE_S, openai.IDLE_S),
            Open(self._defaults.changed(**_options(self._session, self._defaults))),
        ]

    def opened(self, opened: Opened) -> list[Command]:
        self._factory.opened(opened.session)
        self._model = self._model or opened.capabilities.model
        return [_send(SessionCreated(self._factory.event(), self._as_dict()))]

    def received(self, message: str | bytes) -> list[Command]:
        if isinstance(message, bytes) and (text := text_in(message)) is not None:
            return [BINARY_CONTROL, *self.received(text)]
        try:
            request = _READER.read(openai.text_of(message))
        except BadMessage as bad:
            return [_send(self._factory.bad_message(bad))]
        match request:
            case openai.Append(audio):
                return [Audio(audio)]
            case openai.Commit():
                self._items.commit()
                return [Finalize()]
            case openai.Clear():
                self._items.clear()
                return [Clear(), _send(openai.Cleared(self._factory.event()))]
            case SessionFinish():
                return [Stop()]
            case SessionUpdate():
                return self._update(request)
            case _:
                assert_never(request)

    def _update(self, asked: SessionUpdate) -> list[Command]:
        after = _updated(self._session, asked.session, self._defaults)
        if after.input_audio_format not in ("pcm", "pcm16"):
            message = f"The audio must be pcm (16 bit, little-endian, mono), not {after.input_audio_format!r}."
            bad = BadMessage(
                FailureKind.INVALID_VALUE, message, param="session.input_audio_format", event_id=asked.event_id
            )
            return [_send(self._factory.bad_message(bad))]
        self._updating = (asked, after)
        return [Configure(_options(after, self._defaults))]

    def configured(self, options: SessionOptions) -> list[Command]:
        if self._updating is None:
            return []
        (_, self._session), self._updating = self._updating, None
        self._items.end_by_pauses(isinstance(self._session.turn_detection, TurnDetection))
        return [_send(SessionUpdated(self._factory.event(), self._as_dict()))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        commands = self._messages_for(self._items.on_events(events))
        if any(isinstance(event, Done) for event in events):
            commands += self._messages_for(self._items.close())
            commands += [_send(SessionFinished(self._factory.event())), Close(reason="finished")]
        return commands

    def failed(self, failure: Failure) -> list[Command]:
        updating, self._updating = self._updating, None
        error = _send(self._factory.error(failure, event_id=updating[0].event_id if updating else None))
        if failure.close is None:
            return [error]
        return [*self._messages_for(self._items.close()), error, Close(failure.close, failure.code)]

    def _messages_for(self, events: Sequence[items.ItemEvent]) -> list[Command]:
        return [command for event in events for command in self._messages(event)]

    def _messages(self, event: items.ItemEvent) -> list[Command]:
        match event:
            case items.Started() | items.Stopped():
                return [_send(self._factory.speech(event))]
            case items.Committed():
                return [_send(message) for message in self._factory.committed(event, beta=True)]
            case items.Grown(number, _, text, tentative, language):
                grown = Text(self._factory.event(), self._factory.item(number), text, tentative, language)
                return [_send(grown, replaces=number)]
            case items.Settled():
                return [_send(self._factory.failed_item(event) if event.failed else self._completed(event))]
            case _:
                assert_never(event)

    def _completed(self, settled: items.Settled) -> Completed:
        item, usage = self._factory.item(settled.item), openai.Usage(round(settled.seconds, 3))
        return Completed(self._factory.event(), item, settled.text, settled.language, usage)

    def _as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(self._session)
        return {
            "id": self._factory.session_id,
            "object": "realtime.session",
            "model": self._model,
            "modalities": ["text"],
            **shown,
        }


def _send(message: ServerMessage, replaces: int | None = None) -> Send:
    return Send(msgspec.json.encode(message).decode(), replaces)


def _default_turn(defaults: SessionOptions) -> TurnDetection:
    return TurnDetection("server_vad", _THRESHOLD, defaults.pre_roll_ms, defaults.endpoint_ms or 500)


def _updated(held: Session, changes: Session, defaults: SessionOptions) -> Session:
    """`held` with a client's changes; the newer form of the audio's format is read into the older."""
    given = changes.audio.input.format if changes.audio is not UNSET and changes.audio.input is not UNSET else UNSET
    if given is not UNSET:
        changes.input_audio_format, changes.sample_rate = given.type, given.sample_rate
    if isinstance(changes.turn_detection, TurnDetection) and held.turn_detection is None:
        changes.turn_detection = merged(_default_turn(defaults), changes.turn_detection)
    return merged(held, msgspec.structs.replace(changes, audio=UNSET))


def _options(session: Session, defaults: SessionOptions) -> dict[str, Any]:
    """The session options that this session asks for."""
    transcription = session.input_audio_transcription or InputTranscription()
    corpus = transcription.corpus or Corpus()
    turn = session.turn_detection or None
    if turn is not None and isinstance(turn.threshold, float | int):
        turn = msgspec.structs.replace(turn, threshold=_our_threshold(turn.threshold))
    return {
        **format_options(Format("audio/pcm", session.sample_rate or RATE)),
        **transcription_options(Transcription(language=transcription.language, prompt=corpus.text), defaults),
        **turn_options(turn, defaults),
    }


def _our_threshold(theirs: float) -> float:
    """-1..1 with 0.2 for the usual -> 0..1 with 0.5 for the usual."""
    if theirs <= _THRESHOLD:
        return 0.5 * (theirs + 1) / (_THRESHOLD + 1)
    return 0.5 + 0.5 * (theirs - _THRESHOLD) / (1 - _THRESHOLD)
