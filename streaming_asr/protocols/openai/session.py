"""The configuration of an OpenAI realtime transcription session: as clients send it, and as `SessionOptions`.

A field that is absent leaves what was set before, `null` turns it off. The beta's flat form is read into the nested
one of general availability, and written back for clients that speak the beta.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from streaming_asr.core.language_tags import only_language
from streaming_asr.core.options import Encoding, SessionOptions, nearest_allowed
from streaming_asr.turns.detectors import SILENCE, judging
from streaming_asr.voice.detectors import ungated

DEFAULT_RATE = 24_000
"""Hz, of PCM whose format names no rate."""
G711_RATE = 8_000
LOGPROBS = "item.input_audio_transcription.logprobs"

Delay = Literal["minimal", "low", "medium", "high", "xhigh"]
Eagerness = Literal["low", "medium", "high", "auto"]

PARTIALS: dict[str, tuple[int, int]] = {
    "minimal": (200, 250),
    "low": (300, 500),
    "medium": (600, 1_000),
    "high": (1_200, 2_000),
    "xhigh": (2_500, 4_000),
}
"""`delay` -> speech before the first partial, and stream time between partials, ms."""


class Waits(NamedTuple):
    """Silence that ends an utterance, ms."""

    least: int
    """If the turn is surely over."""
    usual: int
    """If that is undecided, or if nothing judges it."""
    most: int
    """If the turn surely goes on."""


WAITS: dict[str, Waits] = {
    "high": Waits(200, 400, 2_000),
    "medium": Waits(300, 800, 4_000),
    "auto": Waits(300, 800, 4_000),
    "low": Waits(600, 1_600, 8_000),
}
"""By `eagerness`. The longest waits are OpenAI's."""
COMMIT_ENDPOINT_MS = 1_500
"""Without turn detection pauses end no item, but are still where long speech is best cut."""


class Format(msgspec.Struct):
    """`audio/pcm` is 16-bit little-endian mono of any rate."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] | UnsetType = UNSET
    rate: int | UnsetType | None = UNSET


class Transcription(msgspec.Struct):
    model: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    languages: list[str] | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    keywords: list[str] | UnsetType | None = UNSET
    delay: Delay | UnsetType | None = UNSET


class NoiseReduction(msgspec.Struct):
    """Taken, shown, and without effect."""

    type: str | UnsetType | None = UNSET
    strength: float | UnsetType | None = UNSET


class TurnDetection(msgspec.Struct):
    type: Literal["server_vad", "semantic_vad"] | UnsetType = UNSET
    threshold: float | UnsetType | None = UNSET
    prefix_padding_ms: float | UnsetType | None = UNSET
    silence_duration_ms: float | UnsetType | None = UNSET
    eagerness: Eagerness | UnsetType | None = UNSET
    # Of conversations, without effect here.
    idle_timeout_ms: float | UnsetType | None = UNSET
    create_response: bool | UnsetType | None = UNSET
    interrupt_response: bool | UnsetType | None = UNSET


class AudioInput(msgspec.Struct):
    format: Format | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class SessionAudio(msgspec.Struct):
    input: AudioInput | UnsetType = UNSET


_FLAT_FORMATS: dict[str, tuple[Literal["audio/pcm", "audio/pcmu", "audio/pcma"], int]] = {
    "pcm16": ("audio/pcm", DEFAULT_RATE),
    "g711_ulaw": ("audio/pcmu", G711_RATE),
    "g711_alaw": ("audio/pcma", G711_RATE),
}


class Session(msgspec.Struct):
    """`session` of `session.update` and `transcription_session.update`; other fields are ignored."""

    audio: SessionAudio | UnsetType = UNSET
    include: list[str] | UnsetType | None = UNSET
    # The beta's flat form.
    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | UnsetType = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    input_audio_noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET

    def nested(self) -> AudioInput:
        """The changes, whichever form they have."""
        given = self.audio.input if self.audio is not UNSET else UNSET
        changes = given if given is not UNSET else AudioInput()
        if self.input_audio_format is not UNSET:
            kind, rate = _FLAT_FORMATS[self.input_audio_format]
            changes.format = Format(kind, rate)
        if self.input_audio_transcription is not UNSET:
            changes.transcription = self.input_audio_transcription
        if self.input_audio_noise_reduction is not UNSET:
            changes.noise_reduction = self.input_audio_noise_reduction
        if self.turn_detection is not UNSET:
            changes.turn_detection = self.turn_detection
        return changes


class Configuration:
    """The configuration in force in one session. Immutable.

    Args:
        defaults: the server's, for what the client does not set.
    """

    def __init__(
        self, defaults: SessionOptions, audio: AudioInput | None = None, include: tuple[str, ...] = ()
    ) -> None:
        self._defaults = defaults
        self.audio = audio or AudioInput(
            format=Format("audio/pcm", DEFAULT_RATE),
            transcription=Transcription(),
            noise_reduction=None,
            turn_detection=self._fresh(TurnDetection("server_vad")),
        )
        self.include = include

    def updated(self, session: Session) -> Configuration:
        """The configuration with a client's changes."""
        changes = session.nested()
        before, turn = self.audio, changes.turn_detection
        if isinstance(turn, TurnDetection):
            held = before.turn_detection
            if not isinstance(held, TurnDetection) or turn.type not in (UNSET, held.type):
                # Nothing of another type stays.
                before = msgspec.structs.replace(before, turn_detection=None)
                changes.turn_detection = merged(self._fresh(turn), turn)
        audio = merged(before, changes)
        include = self.include if session.include is UNSET else tuple(session.include or ())
        return Configuration(self._defaults, audio, include)

    def _fresh(self, turn: TurnDetection) -> TurnDetection:
        """The defaults for turn detection of this type."""
        if turn.type == "semantic_vad":
            return TurnDetection("semantic_vad", eagerness="auto")
        server = self._defaults
        return TurnDetection("server_vad", server.vad_threshold, server.pre_roll_ms, server.endpoint_ms or 500)

    @property
    def turn_detection(self) -> TurnDetection | None:
        """None: only commits end items."""
        return self.audio.turn_detection or None

    @property
    def transcription(self) -> Transcription | None:
        """None: no text is wanted."""
        return self.audio.transcription or None

    @property
    def model(self) -> str | None:
        """The model that the client names."""
        return (self.transcription or Transcription()).model or None

    def options(self) -> dict[str, Any]:
        """The options of a core session that this configuration stands for."""
        return {
            **format_options(self.audio.format or Format()),
            **transcription_options(self.transcription or Transcription(), self._defaults),
            **turn_options(self.turn_detection, self._defaults),
        }

    def to_dict(self, *, flat: bool) -> dict[str, Any]:
        """The configuration as it is sent to the client.

        Args:
            flat: in the beta's form.
        """
        audio: dict[str, Any] = msgspec.to_builtins(self.audio)
        if not flat:
            return {"audio": {"input": audio}, "include": list(self.include) or None}
        names = {kind: name for name, (kind, _) in _FLAT_FORMATS.items()}
        return {
            "input_audio_format": names.get(audio["format"]["type"]),
            "input_audio_transcription": audio["transcription"],
            "input_audio_noise_reduction": audio["noise_reduction"],
            "turn_detection": audio["turn_detection"],
            "include": list(self.include) or None,
        }


T = TypeVar("T", bound=msgspec.Struct)


def merged(old: T, new: T) -> T:
    """`old` with what `new` sets, within nested structs too."""
    changes: dict[str, Any] = {}
    for name in new.__struct_fields__:
        value, held = getattr(new, name), getattr(old, name)
        if value is UNSET:
            continue
        both = isinstance(value, msgspec.Struct) and type(held) is type(value)
        changes[name] = merged(held, value) if both else value
    return msgspec.structs.replace(old, **changes)


def format_options(given: Format) -> dict[str, Any]:
    """The session options of an audio format."""
    if given.type == "audio/pcmu":
        return {"encoding": Encoding.MULAW, "sample_rate": G711_RATE}
    if given.type == "audio/pcma":
        return {"encoding": Encoding.ALAW, "sample_rate": G711_RATE}
    return {"encoding": Encoding.S16LE, "sample_rate": given.rate or DEFAULT_RATE}


def transcription_options(given: Transcription, defaults: SessionOptions) -> dict[str, Any]:
    """The session options of the language, the context and the partials."""
    language = given.language or defaults.language
    if not given.language and given.languages:
        language = only_language(given.languages)
    first, interval = defaults.first_partial_ms, defaults.partial_interval_ms
    if given.delay:
        first, interval = PARTIALS[given.delay]
    return {
        "language": language,
        "context": given.prompt or defaults.context,
        "keywords": tuple(given.keywords or ()) or defaults.keywords,
        "first_partial_ms": first,
        "partial_interval_ms": interval,
    }


def turn_options(given: TurnDetection | None, defaults: SessionOptions) -> dict[str, Any]:
    """The session options of turn detection; values out of range are brought into it."""
    options: dict[str, Any] = {
        "vad": defaults.vad,
        "vad_threshold": defaults.vad_threshold,
        "pre_roll_ms": defaults.pre_roll_ms,
        "endpoint_ms": defaults.endpoint_ms or 500,
        "endpoint_min_ms": defaults.endpoint_min_ms,
        "endpoint_max_ms": defaults.endpoint_max_ms,
        "endpointing": defaults.endpointing,
    }
    if given is None:
        # A client that commits knows that there is speech; a gate would drop what is quiet.
        gateless = {"vad": ungated(defaults.vad), "endpoint_ms": COMMIT_ENDPOINT_MS, "endpointing": SILENCE}
        return {**options, **gateless}
    if given.type == "semantic_vad":
        least, usual, most = WAITS[given.eagerness or "auto"]
        waits = {"endpoint_min_ms": least, "endpoint_ms": usual, "endpoint_max_ms": most}
        return {**options, **waits, "endpointing": judging(defaults.endpointing)}
    if given.threshold is not UNSET and given.threshold is not None:
        options["vad_threshold"] = nearest_allowed("vad_threshold", given.threshold)
    if given.prefix_padding_ms is not UNSET and given.prefix_padding_ms is not None:
        options["pre_roll_ms"] = round(nearest_allowed("pre_roll_ms", given.prefix_padding_ms))
    if given.silence_duration_ms is not UNSET and given.silence_duration_ms is not None:
        options["endpoint_ms"] = round(nearest_allowed("endpoint_ms", given.silence_duration_ms))
    return options
