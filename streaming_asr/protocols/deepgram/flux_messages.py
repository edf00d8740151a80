"""The messages of Deepgram's Flux, `/v2/listen`."""

from __future__ import annotations

import msgspec

from streaming_asr.protocols.json_messages import Reader

# What the client sends, besides audio as binary messages.


class CloseStream(msgspec.Struct, tag="CloseStream"):
    pass


class ForceEndTurn(msgspec.Struct, tag="ForceEndTurn"):
    pass


class KeepAlive(msgspec.Struct, tag="KeepAlive"):
    pass


class Thresholds(msgspec.Struct, omit_defaults=True):
    eager_eot_threshold: float | None = None
    eot_threshold: float | None = None
    eot_timeout_ms: float | None = None


class SetOptions(msgspec.Struct, tag="Configure"):
    """What is absent stays as it is."""

    thresholds: Thresholds | None = None
    keyterms: list[str] | str | None = None
    language_hints: list[str] | None = None


READER: Reader[CloseStream | ForceEndTurn | KeepAlive | SetOptions] = Reader(
    CloseStream | ForceEndTurn | KeepAlive | SetOptions
)

# What the server sends. Times are seconds of the stream.


class Connected(msgspec.Struct, tag="Connected"):
    request_id: str
    sequence_id: int


class Word(msgspec.Struct):
    word: str
    confidence: float
    start: float
    end: float


class TurnInfo(msgspec.Struct, tag="TurnInfo", kw_only=True, omit_defaults=True):
    request_id: str
    sequence_id: int
    event: str
    """StartOfTurn, Update, EagerEndOfTurn, TurnResumed or EndOfTurn."""
    turn_index: int
    audio_window_start: float
    audio_window_end: float
    transcript: str
    """Of the turn so far."""
    words: list[Word]
    end_of_turn_confidence: float
    trigger: str | None = None
    """What ended the turn: model, timeout or manual."""
    languages: list[str] | None = None


class ConfigureSuccess(msgspec.Struct, tag="ConfigureSuccess"):
    request_id: str
    sequence_id: int
    thresholds: Thresholds
    keyterms: list[str]
    language_hints: list[str]


class ConfigureFailure(msgspec.Struct, tag="ConfigureFailure"):
    request_id: str
    sequence_id: int
    code: str
    description: str


class Warned(msgspec.Struct, tag="Warning"):
    """Something was wrong; the session goes on."""

    request_id: str
    sequence_id: int
    code: str
    description: str


class FatalError(msgspec.Struct, tag="Error"):
    request_id: str
    sequence_id: int
    code: str
    description: str


ServerMessage = Connected | TurnInfo | ConfigureSuccess | ConfigureFailure | Warned | FatalError
