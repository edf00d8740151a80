"""OpenAI's realtime protocol, transcription sessions: general availability, the beta, and Together's dialect."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from streaming_asr.core.events import Event
from streaming_asr.core.options import OptionError, SessionOptions
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
    assert_never,
)
from streaming_asr.protocols.controls import BINARY_CONTROL, text_in
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage
from streaming_asr.protocols.openai import items
from streaming_asr.protocols.openai import messages as wire
from streaming_asr.protocols.openai.items import Items
from streaming_asr.protocols.openai.messages import IDLE_S, LIFE_S, MessageFactory
from streaming_asr.protocols.openai.session import (
    LOGPROBS,
    AudioInput,
    Configuration,
    Format,
    Session,
    SessionAudio,
    Transcription,
)

CLOSE_ALONE = frozenset({FailureKind.RESTARTING, FailureKind.NOT_READY})
"""Failures after which clients should connect again, and that have no `error` therefore: LiveKit's plugin takes each
for final. The close has the code as its reason."""


class OpenAITranslator:
    """One connection.

    Args:
        handshake: the query may name a `model`, and in Together's dialect `input_audio_format` and `turn_detection`.
        defaults: the server's, for what the client does not set.
    """

    def __init__(self, handshake: Handshake, defaults: SessionOptions) -> None:
        query = dict(handshake.query)
        self._together = not {"input_audio_format", "turn_detection"}.isdisjoint(query)
        self._beta = "realtime=v1" in handshake.headers.get("openai-beta", "")
        self._created = int(handshake.time)
        asked = msgspec.convert(handshake.session, Session, strict=False)
        self._configuration = Configuration(defaults).updated(asked).updated(_of_query(query))
        self._updating: tuple[wire.SessionUpdate | wire.TranscriptionSessionUpdate, Configuration] | None = None
        self._defaults = defaults
        self._models = handshake.models
        self._items = Items(by_pauses=self._configuration.turn_detection is not None)
        self._growing: int | None = None
        """The last item with a delta; it is completed, also if transcription has been turned off since."""
        self._factory = MessageFactory()

    def connected(self) -> list[Command]:
        model = self._configuration.model
        if model and not self._models.takes(model):
            return self.failed(Failure(FailureKind.MODEL_NOT_FOUND, self._models.unknown(model)))
        try:
            options = self._defaults.changed(**self._configuration.options())
        except OptionError as error:
            return self.failed(Failure(FailureKind.BAD_OPTION, str(error)))
        return [Lifetime(LIFE_S, IDLE_S), Open(options)]

    def opened(self, opened: Opened) -> list[Command]:
        self._factory.opened(opened.session)
        name = self._factory.session_id
        return [_send(wire.SessionCreated(self._factory.event(), self._session(), name, self._created))]

    def received(self, message: str | bytes) -> list[Command]:
        if isinstance(message, bytes) and (text := text_in(message)) is not None:
            return [BINARY_CONTROL, *self.received(text)]
        try:
            request = wire.READER.read(wire.text_of(message))
        except BadMessage as bad:
            return [_send(self._factory.bad_message(bad))]
        match request:
            case wire.Append(audio):
                return [Audio(audio)]
            case wire.Commit():
                self._items.commit()
                return [Finalize()]
            case wire.Clear():
                self._items.clear()
                return [Clear(), _send(wire.Cleared(self._factory.event()))]
            case wire.SessionUpdate():
                return self._update(request)
            case wire.TranscriptionSessionUpdate():
                self._beta = True
                return self._update(request)
            case _:
                assert_never(request)

    def _update(self, asked: wire.SessionUpdate | wire.TranscriptionSessionUpdate) -> list[Command]:
        after = self._configuration.updated(asked.session)
        if after.model and not self._models.takes(after.model):
            missing = Failure(FailureKind.MODEL_NOT_FOUND, self._models.unknown(after.model), goes_on=True)
            param = "session.audio.input.transcription.model"
            return [_send(self._factory.error(missing, param=param, event_id=asked.event_id))]
        self._updating = (asked, after)
        return [Configure(after.options())]

    def configured(self, options: SessionOptions) -> list[Command]:
        if self._updating is None:
            return []
        (asked, self._configuration), self._updating = self._updating, None
        self._items.end_by_pauses(self._configuration.turn_detection is not None)
        if isinstance(asked, wire.TranscriptionSessionUpdate):
            return [_send(wire.TranscriptionSessionUpdated(self._factory.event(), self._session()))]
        return [_send(wire.SessionUpdated(self._factory.event(), self._session()))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return self._messages_for(self._items.on_events(events))

    def failed(self, failure: Failure) -> list[Command]:
        updating, self._updating = self._updating, None
        event_id = updating[0].event_id if updating else None
        error = _send(self._factory.error(failure, event_id=event_id))
        if failure.close is None:
            return [error]
        close = Close(failure.close, failure.code)
        rest = self._messages_for(self._items.close())
        return [*rest, close] if failure.kind in CLOSE_ALONE else [*rest, error, close]

    def _messages_for(self, events: Sequence[items.ItemEvent]) -> list[Command]:
        return [_send(message) for event in events for message in self._messages(event)]

    def _messages(self, event: items.ItemEvent) -> list[wire.ServerMessage]:
        match event:
            case items.Started() | items.Stopped():
                return [self._factory.speech(event)]
            case items.Committed():
                return self._factory.committed(event, beta=self._beta)
            case items.Grown():
                return self._delta(event)
            case items.Settled():
                return self._settled(event)
            case _:
                assert_never(event)

    def _delta(self, event: items.Grown) -> list[wire.ServerMessage]:
        if self._configuration.transcription is None or not (event.delta or self._together):
            return []
        self._growing = event.item
        transcript = event.text + event.tentative if self._together else msgspec.UNSET
        return [wire.Delta(self._factory.event(), self._factory.item(event.item), event.delta, transcript=transcript)]

    def _settled(self, event: items.Settled) -> list[wire.ServerMessage]:
        if self._configuration.transcription is None and event.item != self._growing:
            return []
        return [self._factory.failed_item(event) if event.failed else self._completed(event)]

    def _completed(self, settled: items.Settled) -> wire.Completed:
        usage = wire.Usage(round(settled.seconds, 3))
        completed = wire.Completed(self._factory.event(), self._factory.item(settled.item), settled.text, usage)
        if settled.languages:
            completed.languages = [wire.Language(language) for language in settled.languages]
        if settled.logprobs is not None and LOGPROBS in self._configuration.include:
            completed.logprobs = [
                wire.Logprob(token, list(token.encode()), logprob) for token, logprob in settled.logprobs
            ]
        return completed

    def _session(self) -> dict[str, object]:
        return {
            "id": self._factory.session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "expires_at": self._created + LIFE_S,
            **self._configuration.to_dict(flat=self._beta),
        }


def _send(message: wire.ServerMessage) -> Send:
    return Send(msgspec.json.encode(message).decode())


_RAW_FORMAT = re.compile(r"pcm_s16le_(\d{4,5})")


def _of_query(query: dict[str, str]) -> Session:
    """The session that the query describes."""
    audio = AudioInput()
    if model := query.get("model"):
        audio.transcription = Transcription(model=model)
    if raw := _RAW_FORMAT.fullmatch(query.get("input_audio_format", "")):
        audio.format = Format("audio/pcm", int(raw.group(1)))
    if query.get("turn_detection") in ("none", "null", "false"):
        audio.turn_detection = None
    return Session(audio=SessionAudio(audio))
