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
    Last,
    Open,
    Opened,
    Request,
    Send,
)
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.json_messages import BadMessage
from streaming_asr.protocols.openai import items
from streaming_asr.protocols.openai import messages as wire
from streaming_asr.protocols.openai.items import Items
from streaming_asr.protocols.openai.messages import IDLE_S, LIFE_S, Teller
from streaming_asr.protocols.openai.session import (
    LOGPROBS,
    AudioInput,
    Configuration,
    Format,
    Session,
    Transcription,
)
from streaming_asr.protocols.openai.session import Audio as SessionAudio


class OpenAITranslator:
    """One connection.

    Args:
        request: the query may name a `model`, and in Together's dialect `input_audio_format` and `turn_detection`.
        defaults: the server's, for what the client does not say.
    """

    def __init__(self, request: Request, defaults: SessionOptions) -> None:
        query = dict(request.query)
        self._together = not {"input_audio_format", "turn_detection"}.isdisjoint(query)
        self._beta = "realtime=v1" in request.headers.get("openai-beta", "")
        self._created = int(request.time)
        asked = msgspec.convert(request.session, Session)
        self._configuration = Configuration(defaults).updated(asked).updated(_of_query(query))
        self._updating: tuple[wire.SessionUpdate | wire.TranscriptionSessionUpdate, Configuration] | None = None
        self._defaults = defaults
        self._models = request.models
        self._items = Items(by_pauses=self._configuration.turn_detection is not None)
        self._teller = Teller()

    def connected(self) -> list[Command]:
        model = self._configuration.model
        if model and not self._models.takes(model):
            return self.failed(Failure(FailureKind.MODEL_NOT_FOUND, self._models.unknown(model)))
        try:
            options = self._defaults.changed(**self._configuration.options())
        except OptionError as error:
            return self.failed(Failure(FailureKind.BAD_OPTION, str(error)))
        return [Last(LIFE_S, IDLE_S), Open(options)]

    def opened(self, opened: Opened) -> list[Command]:
        self._teller.opened(opened.session)
        name = self._teller.session_id
        return [_send(wire.SessionCreated(self._teller.event(), self._session(), name, self._created))]

    def received(self, message: str | bytes) -> list[Command]:
        try:
            told = wire.READER.read(wire.text_of(message))
        except BadMessage as bad:
            return [_send(self._teller.bad_message(bad))]
        if isinstance(told, wire.Append):
            return [Audio(told.audio)]
        if isinstance(told, wire.Commit):
            self._items.commit()
            return [Finalize()]
        if isinstance(told, wire.Clear):
            self._items.clear()
            return [Clear(), _send(wire.Cleared(self._teller.event()))]
        self._beta = self._beta or isinstance(told, wire.TranscriptionSessionUpdate)
        after = self._configuration.updated(told.session)
        if after.model and not self._models.takes(after.model):
            missing = Failure(FailureKind.MODEL_NOT_FOUND, self._models.unknown(after.model), goes_on=True)
            param = "session.audio.input.transcription.model"
            return [_send(self._teller.error(missing, param=param, event_id=told.event_id))]
        self._updating = (told, after)
        return [Configure(after.options())]

    def configured(self, options: SessionOptions) -> list[Command]:
        if self._updating is None:
            return []
        (asked, self._configuration), self._updating = self._updating, None
        self._items.end_by_pauses(self._configuration.turn_detection is not None)
        if isinstance(asked, wire.TranscriptionSessionUpdate):
            return [_send(wire.TranscriptionSessionUpdated(self._teller.event(), self._session()))]
        return [_send(wire.SessionUpdated(self._teller.event(), self._session()))]

    def happened(self, events: Sequence[Event]) -> list[Command]:
        return self._told(self._items.happened(events))

    def failed(self, failure: Failure) -> list[Command]:
        updating, self._updating = self._updating, None
        event_id = updating[0].event_id if updating else None
        error = _send(self._teller.error(failure, event_id=event_id))
        if failure.close is None:
            return [error]
        return [*self._told(self._items.close()), error, Close(failure.close, failure.code)]

    def _told(self, told: Sequence[items.ItemEvent]) -> list[Command]:
        return [_send(message) for event in told for message in self._messages(event)]

    def _messages(self, event: items.ItemEvent) -> list[wire.ServerMessage]:
        if isinstance(event, items.Started | items.Stopped):
            return [self._teller.speech(event)]
        if isinstance(event, items.Committed):
            return self._teller.committed(event, beta=self._beta)
        if self._configuration.transcription is None:
            return []
        if isinstance(event, items.Settled):
            return [self._teller.failed_item(event) if event.failed else self._completed(event)]
        if not event.delta and not self._together:
            return []
        transcript = event.text + event.tentative if self._together else msgspec.UNSET
        return [wire.Delta(self._teller.event(), self._teller.item(event.item), event.delta, transcript=transcript)]

    def _completed(self, settled: items.Settled) -> wire.Completed:
        usage = wire.Usage(round(settled.seconds, 3))
        completed = wire.Completed(self._teller.event(), self._teller.item(settled.item), settled.text, usage)
        if settled.language is not None:
            completed.languages = [wire.Language(settled.language)]
        if settled.logprobs is not None and LOGPROBS in self._configuration.include:
            completed.logprobs = [
                wire.Logprob(token, list(token.encode()), logprob) for token, logprob in settled.logprobs
            ]
        return completed

    def _session(self) -> dict[str, object]:
        return {
            "id": self._teller.session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "expires_at": self._created + LIFE_S,
            **self._configuration.shown(flat=self._beta),
        }


def _send(message: wire.ServerMessage) -> Send:
    return Send(msgspec.json.encode(message).decode())


_RAW_FORMAT = re.compile(r"pcm_s16le_(\d{4,5})")


def _of_query(query: dict[str, str]) -> Session:
    """What the query says of the session."""
    audio = AudioInput()
    if model := query.get("model"):
        audio.transcription = Transcription(model=model)
    if raw := _RAW_FORMAT.fullmatch(query.get("input_audio_format", "")):
        audio.format = Format("audio/pcm", int(raw.group(1)))
    if query.get("turn_detection") in ("none", "null", "false"):
        audio.turn_detection = None
    return Session(audio=SessionAudio(audio))
