"""The messages of Deepgram's live transcription, `/v1/listen`."""

from __future__ import annotations

import msgspec

from streaming_asr.protocols.json_messages import Reader

# What the client sends, besides audio as binary messages.


class KeepAlive(msgspec.Struct, tag="KeepAlive"):
    pass


class FinalizeNow(msgspec.Struct, tag="Finalize"):
    pass


class CloseStream(msgspec.Struct, tag="CloseStream"):
    pass


class SetOptions(msgspec.Struct, tag="Configure"):
    keyterms: list[str] | None = None
    """Replace all there were."""
    features: dict[str, bool] | None = None


READER: Reader[KeepAlive | FinalizeNow | CloseStream | SetOptions] = Reader(
    KeepAlive | FinalizeNow | CloseStream | SetOptions
)

# What the server sends. Times are seconds of the stream.


class Word(msgspec.Struct, omit_defaults=True):
    word: str
    start: float
    end: float
    confidence: float
    punctuated_word: str | None = None
    language: str | None = None
    """Only if the client has it detected."""
    speaker: int | None = None
    """From 0; only with `diarize`."""


class Alternative(msgspec.Struct, omit_defaults=True):
    transcript: str
    confidence: float
    words: list[Word]
    languages: list[str] | None = None


class Alternatives(msgspec.Struct):
    alternatives: list[Alternative]


class ModelInfo(msgspec.Struct):
    name: str
    arch: str
    version: str = ""


class Origin(msgspec.Struct):
    request_id: str
    model_info: ModelInfo
    model_uuid: str


class Results(msgspec.Struct, tag="Results", kw_only=True):
    channel_index: tuple[int, int]
    """Which channel, of how many."""
    start: float
    duration: float
    is_final: bool
    speech_final: bool
    """Whether a pause, or the client, ended the speech."""
    from_finalize: bool
    channel: Alternatives
    metadata: Origin


class SpeechBegan(msgspec.Struct, tag="SpeechStarted"):
    channel: tuple[int, int]
    timestamp: float


class UtteranceEnd(msgspec.Struct, tag="UtteranceEnd"):
    channel: tuple[int, int]
    last_word_end: float


class Metadata(msgspec.Struct, tag="Metadata"):
    request_id: str
    sha256: str
    """Of all audio as it came."""
    created: str
    duration: float
    channels: int
    transaction_key: str = "deprecated"


class ConfigureSuccess(msgspec.Struct, tag="ConfigureSuccess", omit_defaults=True):
    request_id: str
    keyterms: list[str] | None = None


class ConfigureFailure(msgspec.Struct, tag="ConfigureFailure"):
    request_id: str
    code: str
    description: str


class Error(msgspec.Struct, tag="Error", omit_defaults=True):
    variant: str
    description: str
    message: str | None = None
    """The client's, which can't be read."""


ServerMessage = Results | SpeechBegan | UtteranceEnd | Metadata | ConfigureSuccess | ConfigureFailure | Error
