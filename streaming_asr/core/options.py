"""Options of one session, validated once, at the edge.

Every option says its unit in its name. The defaults of the voice detector and the onset rule come from docs/vad.md.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from dataclasses import dataclass
from typing import Any


class OptionError(ValueError):
    """An option is out of its range. The message says what would be right."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option


class Encoding(str, enum.Enum):
    """How samples look on the wire."""

    S16LE = "s16le"
    F32LE = "f32le"
    MULAW = "mulaw"
    ALAW = "alaw"


class ChannelMode(str, enum.Enum):
    """What becomes of two channels."""

    MIX = "mix"
    """Averaged into one transcript."""
    SPLIT = "split"
    """Each its own transcript; events say which by `channel`."""


MIN_RATE, MAX_RATE = 8_000, 48_000
RECORDED_ENDPOINT_MS = 1000
"""Silence that ends an utterance of a recording: nobody waits for its finals, and fewer cuts make fewer errors."""
MAX_KEYWORDS = 200
MAX_KEYWORD_CHARS = 100
MAX_CONTEXT_CHARS = 4_000

_RANGES: dict[str, tuple[float, float]] = {
    "sample_rate": (MIN_RATE, MAX_RATE),
    "channels": (1, 2),
    "vad_threshold": (0.05, 0.95),
    "endpoint_ms": (100, 10_000),
    "pause_ms": (60, 2_000),
    "onset_ms": (0, 1_000),
    "pre_roll_ms": (0, 2_000),
    "max_utterance_s": (5, 600),
    "partial_interval_ms": (100, 60_000),
    "withheld_words": (0, 10),
    "first_partial_ms": (100, 60_000),
}

_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How one stream is heard and what is said of it.

    Raises:
        OptionError: a value is out of range.
    """

    encoding: Encoding = Encoding.S16LE
    sample_rate: int = 16_000
    """Hz, of the audio on the wire."""
    channels: int = 1
    """Interleaved in each frame."""
    channel_mode: ChannelMode = ChannelMode.MIX

    language: str | None = None
    """ISO 639 code to force, or None to detect and then keep."""
    keywords: tuple[str, ...] = ()
    context: str = ""
    """Background for the recognizer: names, topic."""
    rolling_context: bool | None = None
    """Whether earlier finals are given to the recognizer; None leaves it to the recognizer's own preference."""

    vad: str = "cascade"
    """`cascade`, `silero` or `webrtc`."""
    vad_threshold: float = 0.5
    """Silero's probability of speech; has no part in `webrtc`."""
    onset_ms: int = 96
    """Voiced time, within twice as long, that opens an utterance; shorter sounds are no speech."""
    pre_roll_ms: int = 300
    """Audio before the first voiced frame that still belongs to the utterance."""
    pause_ms: int = 200
    """Silence after which a speculative final is made; also the silence kept at an utterance's end."""
    endpoint_ms: int | None = 500
    """Silence that ends an utterance; None: only the client, the length limit and the end of the stream do."""
    max_utterance_s: float = 30.0
    """Longer speech is cut at its best pause."""

    partials: bool = True
    first_partial_ms: int = 300
    """Speech before the first partial."""
    partial_interval_ms: int = 500
    withheld_words: int = 1
    """Words at the end of a partial that are not shown while speech goes on: the end of the audio cut the last one."""
    """Stream time between partials when the recognizer keeps up."""
    word_times: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OptionError(name, f"{value} is out of range; {low:g} to {high:g} is allowed")
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            raise OptionError("language", f"{self.language!r} is not an ISO 639 code such as 'en' or 'zh'")
        if len(self.keywords) > MAX_KEYWORDS:
            raise OptionError("keywords", f"{len(self.keywords)} given; at most {MAX_KEYWORDS} are allowed")
        if any(len(keyword) > MAX_KEYWORD_CHARS for keyword in self.keywords):
            raise OptionError("keywords", f"one is longer than {MAX_KEYWORD_CHARS} characters")
        if len(self.context) > MAX_CONTEXT_CHARS:
            raise OptionError("context", f"{len(self.context)} characters; at most {MAX_CONTEXT_CHARS} are allowed")
        if self.vad not in ("cascade", "silero", "webrtc"):
            raise OptionError("vad", f"{self.vad!r} is not one of cascade, silero, webrtc")

    def changed(self, **changes: Any) -> SessionOptions:
        """These options with some replaced, validated again."""
        return dataclasses.replace(self, **changes)


CHANGEABLE = frozenset(
    {
        "encoding",
        "sample_rate",
        "language",
        "keywords",
        "context",
        "rolling_context",
        "vad",
        "vad_threshold",
        "pre_roll_ms",
        "endpoint_ms",
        "pause_ms",
        "partials",
        "first_partial_ms",
        "partial_interval_ms",
        "withheld_words",
        "word_times",
    }
)
"""Options that may change while audio flows; the others describe the stream itself."""
