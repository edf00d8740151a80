"""Deepgram's live transcription, `/v1/listen`."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

import msgspec

from streaming_asr.core.events import (
    Done,
    EagerTurnEnd,
    EndReason,
    Event,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeakerIdentified,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
    Translation,
    TurnResumed,
)
from streaming_asr.core.options import MAX_KEYWORDS, ChannelMode, SessionOptions, nearest_allowed
from streaming_asr.protocols.base import (
    AtPosition,
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
from streaming_asr.protocols.deepgram import listen_messages as wire
from streaming_asr.protocols.deepgram.query import Query, make_request_id, with_options
from streaming_asr.protocols.deepgram.utterance_order import UtteranceOrder
from streaming_asr.protocols.failures import Failure
from streaming_asr.protocols.json_messages import BadMessage
from streaming_asr.text import timed_words
from streaming_asr.text.timed_words import TimedWord
from streaming_asr.turns.detectors import SILENCE, judging

LEAST_ENDPOINT_MS = 300
"""Clients that detect the ends of turns themselves set as little as 10 ms, which would cut words to pieces."""


class DeepgramTranslator:
    """One connection.

    Args:
        handshake: its query has the options of the session.
        defaults: the server's, for options that the query does not set.

    Raises:
        BadRequest: a parameter is not valid.
    """

    def __init__(self, handshake: Handshake, defaults: SessionOptions) -> None:
        query = Query(handshake.query)
        query.check_model(handshake.models)
        self._interims = query.flag("interim_results") or False
        self._vad_events = query.flag("vad_events") or False
        self._punctuated = query.flag("punctuate") is not False or query.flag("smart_format") is True
        self._pauses_end_speech = query.text("endpointing") not in ("false", "0")
        self._utterance_end_ms = query.whole("utterance_end_ms", 0, 60_000)
        self._options = self._requested_options(query, defaults)
        self._detects = query.text("language") == "multi" or query.flag("detect_language") is True
        self._channels = self._options.channels if self._options.channel_mode is ChannelMode.SPLIT else 1
        self._created = handshake.time
        self._origin = wire.Origin("", wire.ModelInfo("", ""), "")
        self._order = UtteranceOrder()
        self._reasons: dict[int, EndReason] = {}
        """Of the utterances that ended and have no final yet."""
        self._answered: set[int] = set()
        """Channels whose latest `Finalize` an utterance's final has answered."""
        self._last_words: dict[int, int] = {}
        """Where the last word ended, ms, of channels whose `UtteranceEnd` has not been sent."""
        self._position_ms = 0
        """How much audio had been received, at least, at the latest event."""
        self._digest = hashlib.sha256()
        self._configuring: wire.SetOptions | None = None
        self._stopped = False

    def _requested_options(self, query: Query, defaults: SessionOptions) -> SessionOptions:
        options = query.audio()
        channels = query.whole("channels", 1, 2) or 1
        if channels == 2:
            split = query.flag("multichannel")
            options |= {"channels": 2, "channel_mode": ChannelMode.SPLIT if split else ChannelMode.MIX}
        if query.text("endpointing") == "turn":
            options["endpointing"] = judging(defaults.endpointing)
        elif query.text("endpointing") not in (None, "true", "false", "0"):
            asked = query.whole("endpointing", 0, 3_600_000) or 0
            options["endpoint_ms"] = round(nearest_allowed("endpoint_ms", max(asked, LEAST_ENDPOINT_MS)))
            options["endpointing"] = SILENCE
        if query.text("language") is not None or query.flag("detect_language"):
            options["language"] = None if query.flag("detect_language") else query.text("language")
        if keywords := query.key_terms():
            options["keywords"] = keywords
        options |= query.text_options()
        if (diarize := query.flag("diarize")) is not None or query.text("diarize_model") is not None:
            options["speakers"] = diarize is not False
        return with_options(defaults, partials=self._interims, word_times=True, **options)

    def connected(self) -> list[Command]:
        return [Open(self._options)]

    def opened(self, opened: Opened) -> list[Command]:
        can = opened.capabilities
        model_id = str(uuid.uuid5(uuid.NAMESPACE_OID, can.model))
        self._origin = wire.Origin(make_request_id(opened.session), wire.ModelInfo(can.model, can.name), model_id)
        return []

    def received(self, message: str | bytes) -> list[Command]:
        if self._stopped:
            return []
        if isinstance(message, bytes):
            control = find_control(message, wire.READER)
            return self._take_audio(message) if control is None else [BINARY_CONTROL, *self.received(control)]
        try:
            request = wire.READER.read(message)
        except BadMessage as bad:
            shown = message[:1000].encode(errors="replace").decode()
            return [_send(wire.Error("SchemaError", bad.message, shown))]
        match request:
            case wire.FinalizeNow():
                self._answered.clear()
                return [Finalize()]
            case wire.CloseStream():
                return self._stop()
            case wire.SetOptions():
                self._configuring = request
                return [Configure({} if request.keyterms is None else {"keywords": tuple(request.keyterms)})]
            case wire.KeepAlive():
                return []
            case _:
                assert_never(request)

    def _take_audio(self, audio: bytes) -> list[Command]:
        if not audio:
            return self._stop()
        self._digest.update(audio)
        return [Audio(audio)]

    def _stop(self) -> list[Command]:
        self._stopped = True
        return [Stop()]

    def configured(self, options: SessionOptions) -> list[Command]:
        asked, self._configuring = self._configuring, None
        if asked is None:
            return []
        features = asked.features or {}
        self._punctuated = features.get("punctuate", features.get("smart_format", self._punctuated))
        keyterms = None if asked.keyterms is None else list(options.keywords)
        return [_send(wire.ConfigureSuccess(self._origin.request_id, keyterms))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        self._position_ms = max([self._position_ms, *map(_position_ms, events)])
        commands = [command for event in self._order.in_order(events) for command in self._messages_for(event)]
        return commands + self._silences()

    def _received_until(self, audio_ms: int) -> list[Command]:
        self._position_ms = max(self._position_ms, audio_ms)
        return self._silences()

    def _silences(self) -> list[Command]:
        """`UtteranceEnd` of the channels that have been silent for long enough, and when to look at the others."""
        if self._utterance_end_ms is None:
            return []
        silent = [channel for channel in self._last_words if not self._order.speaking(channel)]
        commands = [command for channel in silent for command in self._utterance_end(channel, self._position_ms)]
        due = [self._last_words[channel] + self._utterance_end_ms for channel in silent if channel in self._last_words]
        return [*commands, AtPosition(min(due), self._received_until)] if due else commands

    def _messages_for(self, event: Event) -> list[Command]:
        match event:
            case SpeechStarted():
                return self._speech_started(event)
            case Partial():
                return self._partial(event)
            case SpeechEnded():
                self._reasons[event.utterance] = event.reason
                return []
            case Final():
                return self._final(event)
            case Finalized():
                return self._finalized(event)
            case Done():
                return [*self._silences(), _send(self._metadata(event)), Close()]
            case SpeechResumed() | EagerTurnEnd() | TurnResumed() | SpeakerIdentified() | Translation():
                return []  # Deepgram has no messages for these.
            case SessionWarning():
                return []
            case _:
                assert_never(event)

    def _speech_started(self, event: SpeechStarted) -> list[Command]:
        ended = self._utterance_end(event.channel, event.start_ms)
        self._last_words.pop(event.channel, None)
        began = wire.SpeechBegan(self._index(event.channel), event.start_ms / 1000)
        return [*ended, _send(began)] if self._vad_events else ended

    def _partial(self, partial: Partial) -> list[Command]:
        text = (partial.stable + partial.tentative).strip()
        if not self._interims or not text:
            return []
        return [_send(self._interim(partial, text), replaces=partial.utterance)]

    def _final(self, final: Final) -> list[Command]:
        reason = self._reasons.pop(final.utterance, EndReason.ENDPOINT)
        from_finalize = reason is EndReason.FINALIZE
        if from_finalize:
            self._answered.add(final.channel)
        words = timed_words.timed_words(final.text, final.start_ms, final.end_ms, final.words, final.speaker)
        if words:
            self._last_words[final.channel] = words[-1].end_ms
        ended = not self._order.continues(final.utterance)
        if reason.by_pause:
            ended = ended and self._pauses_end_speech
        results = self._results(
            final.channel, final.text, words, final.start_ms, final.end_ms, final.language, final.confidence
        )
        results.is_final, results.speech_final, results.from_finalize = True, ended, from_finalize
        return [_send(results)]

    def _finalized(self, event: Finalized) -> list[Command]:
        """Every `Finalize` gets an answer, with an empty text if there was no speech."""
        if event.channel in self._answered:
            self._answered.remove(event.channel)
            return []
        results = self._results(event.channel, "", [], event.time_ms, event.time_ms, None, None)
        results.is_final = results.speech_final = results.from_finalize = True
        return [_send(results)]

    def _interim(self, partial: Partial, text: str) -> wire.Results:
        words = timed_words.timed_words(text, partial.start_ms, partial.end_ms, speaker=partial.speaker)
        return self._results(partial.channel, text, words, partial.start_ms, partial.end_ms, partial.language, None)

    def _results(
        self,
        channel: int,
        text: str,
        words: Sequence[TimedWord],
        start_ms: int,
        end_ms: int,
        language: str | None,
        confidence: float | None,
    ) -> wire.Results:
        """An interim; the confidence is 1 if the recognizer reports none."""
        certain = 1.0 if confidence is None else round(confidence, 4)
        wire_words = [
            wire.Word(
                timed_words.plain(word.text) or word.text,
                word.start_ms / 1000,
                word.end_ms / 1000,
                certain if word.confidence is None else round(word.confidence, 4),
                word.text if self._punctuated else None,
                language if self._detects else None,
                word.speaker,
            )
            for word in words
        ]
        transcript = text if self._punctuated else timed_words.plain(text)
        languages = None if language is None else [language]
        return wire.Results(
            channel_index=self._index(channel),
            start=start_ms / 1000,
            duration=(end_ms - start_ms) / 1000,
            is_final=False,
            speech_final=False,
            from_finalize=False,
            channel=wire.Alternatives([wire.Alternative(transcript, certain if text else 0.0, wire_words, languages)]),
            metadata=self._origin,
        )

    def _utterance_end(self, channel: int, silent_until_ms: int) -> list[Command]:
        """`UtteranceEnd`, if it is wanted and the silence since the last word is long enough."""
        last = self._last_words.get(channel)
        if last is None or self._utterance_end_ms is None or silent_until_ms - last < self._utterance_end_ms:
            return []
        del self._last_words[channel]
        return [_send(wire.UtteranceEnd(self._index(channel), last / 1000))]

    def _metadata(self, done: Done) -> wire.Metadata:
        created = datetime.fromtimestamp(self._created, timezone.utc).isoformat(timespec="milliseconds")
        return wire.Metadata(
            self._origin.request_id,
            self._digest.hexdigest(),
            created.replace("+00:00", "Z"),
            done.audio_ms / 1000,
            self._options.channels,
        )

    def failed(self, failure: Failure) -> list[Command]:
        configuring, self._configuring = self._configuring, None
        if configuring is not None and failure.close is None:
            many = len(configuring.keyterms or ()) > MAX_KEYWORDS
            code = "CONFIGURE_KEYTERM_LIMIT_EXCEEDED" if many else "CONFIGURE_INTERNAL_ERROR"
            return [_send(wire.ConfigureFailure(self._origin.request_id, code, failure.message))]
        error = _send(wire.Error(failure.code, failure.message))
        return [error] if failure.close is None else [error, Close(failure.close, failure.code)]

    def _index(self, channel: int) -> tuple[int, int]:
        return channel, self._channels


def _position_ms(event: Event) -> int:
    """How much audio had been received, at least, when there was this event."""
    match event:
        case Done(audio_ms):
            return audio_ms
        case Finalized(_, time_ms):
            return time_ms
        case SpeechStarted(_, _, start_ms):
            return start_ms
        case Partial() | Final():
            return event.end_ms
        case SpeechEnded():
            return event.end_ms + event.silence_ms
        case _:
            return 0


def _send(message: wire.ServerMessage, replaces: int | None = None) -> Send:
    return Send(msgspec.json.encode(message).decode(), replaces)
