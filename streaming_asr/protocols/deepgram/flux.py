"""Deepgram's Flux, `/v2/listen`: one turn of a conversation after the other."""

from __future__ import annotations

from collections.abc import Sequence

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
from streaming_asr.core.language_tags import only_language
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Word
from streaming_asr.protocols.base import (
    Audio,
    BadRequest,
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
from streaming_asr.protocols.deepgram import flux_messages as wire
from streaming_asr.protocols.deepgram.flux_turns import EAGER_RANGE, EOT_RANGE, TIMEOUT_RANGE, Turn, TurnRules
from streaming_asr.protocols.deepgram.query import Query, make_request_id, with_options
from streaming_asr.protocols.deepgram.utterance_order import UtteranceOrder
from streaming_asr.protocols.failures import Failure
from streaming_asr.protocols.json_messages import BadMessage
from streaming_asr.text.timed_words import timed_words
from streaming_asr.turns.detectors import SILENCE


class FluxTranslator:
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
        self._defaults = defaults
        asked = wire.Thresholds(
            query.number("eager_eot_threshold", *EAGER_RANGE),
            query.number("eot_threshold", *EOT_RANGE),
            query.number("eot_timeout_ms", *TIMEOUT_RANGE),
        )
        self._rules = TurnRules(defaults.endpoint_ms or 500).updated(asked)
        self._hints = query.texts("language_hint")
        self._options = with_options(
            defaults,
            word_times=True,
            **query.audio(),
            **self._rules.options(defaults),
            **query.text_options(),
            **({"keywords": query.key_terms()} if query.key_terms() else {}),
            **({"language": only_language(self._hints)} if self._hints else {}),
        )
        self._request_id = ""
        self._sequence = 0
        self._order = UtteranceOrder()
        self._turn: Turn | None = None
        self._turns = 0
        self._judged = self._options.endpointing != SILENCE
        """Whether eager ends come from a turn detector; otherwise, from the silence."""
        self._start_ms = 0
        """Of the latest utterance."""
        self._ended: SpeechEnded | None = None
        """How the latest utterance ended."""
        self._configuring: tuple[TurnRules, list[str]] | None = None
        self._stopped = False

    def connected(self) -> list[Command]:
        return [Open(self._options)]

    def opened(self, opened: Opened) -> list[Command]:
        self._request_id = make_request_id(opened.session)
        return [_send(wire.Connected(self._request_id, self._next()))]

    def received(self, message: str | bytes) -> list[Command]:
        if self._stopped:
            return []
        if isinstance(message, bytes):
            control = find_control(message, wire.READER)
            return [Audio(message)] if control is None else [BINARY_CONTROL, *self.received(control)]
        try:
            request = wire.READER.read(message)
        except BadMessage as bad:
            return [_send(wire.Warned(self._request_id, self._next(), "UNPARSABLE_CLIENT_MESSAGE", bad.message))]
        match request:
            case wire.ForceEndTurn():
                return [Finalize()]
            case wire.SetOptions():
                return self._configure(request)
            case wire.KeepAlive():
                return []
            case wire.CloseStream():
                self._stopped = True
                return [Stop()]
            case _:
                assert_never(request)

    def _configure(self, asked: wire.SetOptions) -> list[Command]:
        try:
            rules = self._rules.updated(asked.thresholds or wire.Thresholds())
        except BadRequest as error:
            return [self._configure_failure("INVALID_THRESHOLDS", str(error))]
        changes: dict[str, object] = dict(rules.options(self._defaults))
        if asked.keyterms is not None:
            changes["keywords"] = (asked.keyterms,) if isinstance(asked.keyterms, str) else tuple(asked.keyterms)
        hints = self._hints
        if asked.language_hints is not None:
            hints = asked.language_hints
            changes["language"] = only_language(hints) if hints else self._defaults.language
        self._configuring = (rules, hints)
        return [Configure(changes)]

    def configured(self, options: SessionOptions) -> list[Command]:
        if self._configuring is None:
            return []
        (self._rules, self._hints), self._configuring = self._configuring, None
        rules = self._rules
        thresholds = wire.Thresholds(rules.eager, rules.eot, rules.timeout_ms)
        keyterms = list(options.keywords)
        return [_send(wire.ConfigureSuccess(self._request_id, self._next(), thresholds, keyterms, self._hints))]

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return [command for event in self._order.in_order(events) for command in self._messages_for(event)]

    def _messages_for(self, event: Event) -> list[Command]:
        match event:
            case SpeechStarted():
                self._start_ms = event.start_ms
                if self._turn is None:
                    self._turn = Turn(self._turns, event.start_ms, event.start_ms)
                return []
            case SpeechEnded():
                self._ended = event
                return []
            case Partial():
                return [] if self._turn is None else self._partial(self._turn, event)
            case EagerTurnEnd():
                return [] if self._turn is None else self._eager_end(self._turn, event)
            case SpeechResumed():
                return [] if self._turn is None or self._judged else self._resumed(self._turn)
            case TurnResumed():
                return [] if self._turn is None else self._resumed(self._turn)
            case Final():
                return [] if self._turn is None else self._final(self._turn, event)
            case SessionWarning():
                return [_send(wire.Warned(self._request_id, self._next(), event.code.upper(), event.message))]
            case Done():
                return [Close()]
            case Finalized() | SpeakerIdentified() | Translation():
                return []  # Flux has no message for these.
            case _:
                assert_never(event)

    def _partial(self, turn: Turn, partial: Partial) -> list[Command]:
        text = (partial.stable + partial.tentative).strip()
        if not text:
            return []
        turn.update(text, _words(text, partial.start_ms, partial.end_ms), partial.end_ms, partial.language)
        by_silence = not self._judged and self._rules.pause_ms is not None
        eager = by_silence and partial.speculative and not turn.eager
        commands = self._begin(turn)
        if not eager:
            return commands or [self._info(turn, "Update", replaces=partial.utterance)]
        turn.eager = True
        confidence = self._rules.confidence(self._rules.pause_ms or 0)
        return [*commands, self._info(turn, "EagerEndOfTurn", confidence)]

    def _eager_end(self, turn: Turn, event: EagerTurnEnd) -> list[Command]:
        turn.update(event.text, _words(event.text, self._start_ms, event.time_ms), event.time_ms, None)
        turn.eager = True
        return [*self._begin(turn), self._info(turn, "EagerEndOfTurn", round(event.probability, 3))]

    def _begin(self, turn: Turn) -> list[Command]:
        """Send `StartOfTurn` with the first words of a turn."""
        if turn.begun:
            return []
        turn.begun = True
        return [self._info(turn, "StartOfTurn")]

    def _resumed(self, turn: Turn) -> list[Command]:
        if not turn.eager:
            return []
        turn.eager = False
        return [self._info(turn, "TurnResumed")]

    def _final(self, turn: Turn, final: Final) -> list[Command]:
        words = _words(final.text, final.start_ms, final.end_ms, final.words, final.confidence)
        turn.update(final.text, words, final.end_ms, final.language)
        turn.settle()
        commands = self._begin(turn) if turn.text else []
        if self._order.continues(final.utterance):
            return [*commands, *self._resumed(turn)]
        self._turn = None
        if not turn.begun:
            return []
        self._turns += 1
        trigger, confidence = self._trigger()
        return [*commands, self._info(turn, "EndOfTurn", confidence, trigger)]

    def _trigger(self) -> tuple[str, float]:
        """What ended the turn, and the confidence that it is over."""
        reason, probability = EndReason.ENDPOINT, None
        if self._ended is not None:
            reason, probability = self._ended.reason, self._ended.probability
        if reason in (EndReason.FINALIZE, EndReason.STOP):
            return "manual", 1.0
        if probability is not None:
            return "timeout" if reason is EndReason.TIMEOUT else "model", round(probability, 3)
        return "timeout" if self._rules.times_out else "model", self._rules.confidence(self._rules.endpoint_ms)

    def _info(
        self, turn: Turn, event: str, confidence: float = 0.0, trigger: str | None = None, replaces: int | None = None
    ) -> Send:
        info = wire.TurnInfo(
            request_id=self._request_id,
            sequence_id=self._next(),
            event=event,
            turn_index=turn.index,
            audio_window_start=turn.start_ms / 1000,
            audio_window_end=turn.end_ms / 1000,
            transcript=turn.text,
            words=turn.words,
            end_of_turn_confidence=confidence,
            trigger=trigger,
            languages=None if turn.language is None else [turn.language],
        )
        return _send(info, replaces)

    def failed(self, failure: Failure) -> list[Command]:
        configuring, self._configuring = self._configuring, None
        if failure.close is not None:
            error = wire.FatalError(self._request_id, self._next(), failure.code.upper(), failure.message)
            return [_send(error), Close(failure.close, failure.code)]
        if configuring is not None:
            return [self._configure_failure("INVALID_CONFIGURATION", failure.message)]
        return [_send(wire.Warned(self._request_id, self._next(), failure.code.upper(), failure.message))]

    def _configure_failure(self, code: str, description: str) -> Send:
        return _send(wire.ConfigureFailure(self._request_id, self._next(), code, description))

    def _next(self) -> int:
        number = self._sequence
        self._sequence += 1
        return number


def _words(
    text: str, start_ms: int, end_ms: int, known: Sequence[Word] | None = None, confidence: float | None = None
) -> list[wire.Word]:
    """The words as they are sent; the confidence is 1 where the recognizer gives none."""
    certain = 1.0 if confidence is None else confidence
    return [
        wire.Word(
            word.text,
            round(certain if word.confidence is None else word.confidence, 4),
            word.start_ms / 1000,
            word.end_ms / 1000,
        )
        for word in timed_words(text, start_ms, end_ms, known)
    ]


def _send(message: wire.ServerMessage, replaces: int | None = None) -> Send:
    return Send(msgspec.json.encode(message).decode(), replaces)
