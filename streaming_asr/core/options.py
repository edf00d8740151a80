"""Options of one session, validated once, at the edge, and how any option is declared.

An option is one dataclass field made by `option`: its ranges, its command-line flag and its row in the docs' tables
follow from it. Every option says its unit in its name. The defaults of the voice detector and the onset rule come
from docs/vad.md.
"""

from __future__ import annotations

import dataclasses
import enum
import reprlib
from dataclasses import dataclass
from typing import Any, TypeVar

from streaming_asr.core.language_tags import language_of
from streaming_asr.core.profiles import PROFILES, options_of_profile


class OptionError(ValueError):
    """An option is out of its range. The message says what would be right."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of an option besides its name, its type and its default."""

    help: str
    """A phrase for `--help` and for the docs, with code in backticks."""
    group: str
    """The heading that it is listed under."""
    range: tuple[float, float] | None = None
    """Smallest and largest value allowed, in the unit that the name says."""
    choices: tuple[str, ...] = ()
    changeable: bool = False
    """Whether it may change while audio flows."""
    flag: str | None = None
    """The command-line flag; None: the option's name, with dashes."""
    has_flag: bool = True
    """Whether it can be given on the command line, as a default."""
    metavar: str | None = None
    """What stands for the value in `--help`."""


def option(default: T, help: str, *, group: str, **more: Any) -> T:
    """Declare an option: a dataclass field with this default, and the other fields of `Option` where they differ."""
    return dataclasses.field(default=default, metadata={"option": Option(help, group, **more)})


def options_of(cls: type) -> dict[str, Option]:
    """The options that a dataclass declares, by name, in order."""
    declared = {field.name: field.metadata["option"] for field in dataclasses.fields(cls) if "option" in field.metadata}
    return {name: dataclasses.replace(one, metavar=one.metavar or _unit(name)) for name, one in declared.items()}


def _unit(name: str) -> str:
    unit = name.rpartition("_")[2]
    return unit.upper() if unit in ("ms", "s", "bytes") else "N"


def check_options(given: Any) -> None:
    """Check the options of a dataclass's instance against their ranges and choices.

    Raises:
        OptionError: a value is not allowed.
    """
    for name, declared in options_of(type(given)).items():
        value = getattr(given, name)
        if declared.range is not None and value is not None:
            low, high = declared.range
            if not low <= value <= high:
                raise OptionError(name, f"{plain(value)} is out of range; {plain(low)} to {plain(high)} is allowed")
        if declared.choices and value is not None and value not in declared.choices:
            raise OptionError(name, f"{value!r} is not one of {', '.join(declared.choices)}")


def plain(value: float) -> str:
    """A number as people write it: `30`, not `30.0`, and `1000000`, not `1e+06`."""
    return str(int(value)) if isinstance(value, int) or value.is_integer() else f"{value:g}"


class Encoding(str, enum.Enum):
    """Format of the samples on the wire."""

    S16LE = "s16le"
    F32LE = "f32le"
    MULAW = "mulaw"
    ALAW = "alaw"
    AUTO = "auto"
    """A file, such as WebM, which is decoded while it arrives; audio that is not one is `S16LE`."""


class ChannelMode(str, enum.Enum):
    """How two channels are transcribed."""

    MIX = "mix"
    """Mixed, into one transcript."""
    SPLIT = "split"
    """Each into a transcript of its own; `channel` of an event says which."""


MIN_RATE, MAX_RATE = 8_000, 48_000
RECORDED_ENDPOINT_MS: int = PROFILES["recording"].options["endpoint_ms"]
"""Silence that ends an utterance of a recording: its finals are not urgent, and fewer cuts make fewer errors."""
MAX_KEYWORDS = 200
MAX_KEYWORD_CHARS = 100
MAX_CONTEXT_CHARS = 4_000
MAX_REPLACEMENTS = 200
MAX_REPLACEMENT_CHARS = 200
REDACTIONS = ("numbers", "pci", "ssn", "pii")
"""Values of `redact`."""

AUDIO, RECOGNITION, UTTERANCES, PARTIALS, TEXT = "audio", "recognition", "utterances", "partials", "text"
"""Groups of the options of a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How one stream is segmented and recognized, and which events it yields.

    Raises:
        OptionError: a value is out of range.
    """

    profile: str | None = option(
        None,
        "sets other options for a use; see below",
        group=UTTERANCES,
        choices=tuple(PROFILES),
        changeable=True,
    )
    """It takes effect in `changed` alone, which knows what else was given."""

    encoding: Encoding = option(
        Encoding.S16LE,
        "of the audio; `auto`: a file, else `s16le`",
        group=AUDIO,
        choices=tuple(encoding.value for encoding in Encoding),
        changeable=True,
    )
    sample_rate: int = option(
        16_000,
        "sample rate of the audio sent",
        group=AUDIO,
        range=(MIN_RATE, MAX_RATE),
        changeable=True,
        metavar="HZ",
    )
    channels: int = option(1, "channels sent, interleaved", group=AUDIO, range=(1, 2))
    channel_mode: ChannelMode = option(
        ChannelMode.MIX,
        "`mix` makes one transcript of two channels; `split` makes one of each",
        group=AUDIO,
        choices=tuple(mode.value for mode in ChannelMode),
    )

    lead_in_ms: int = option(
        0,
        "audio at the beginning that only the voice detector uses: its words are known",
        group=AUDIO,
        range=(0, 30_000),
        has_flag=False,
    )

    language: str | None = option(
        None,
        "tag such as `en` or `en-US` to force; null or `auto`: it is detected, then kept",
        group=RECOGNITION,
        changeable=True,
        metavar="CODE",
    )
    keywords: tuple[str, ...] = option(
        (),
        f"words likely to be said, at most {MAX_KEYWORDS} of {MAX_KEYWORD_CHARS} characters",
        group=RECOGNITION,
        changeable=True,
        flag="--keyword",
        metavar="WORD",
    )
    context: str = option(
        "",
        f"background for the recognizer, such as names and topic; at most {MAX_CONTEXT_CHARS} characters",
        group=RECOGNITION,
        changeable=True,
        metavar="TEXT",
    )
    rolling_context: bool | None = option(
        None,
        "whether the recognizer gets earlier finals; null: if they improve it",
        group=RECOGNITION,
        changeable=True,
    )

    vad: str = option("adaptive", "voice detector", group=UTTERANCES, changeable=True)
    """A name that the sessions' `DetectorFactory` knows."""
    vad_threshold: float = option(
        0.5,
        "how sure the voice detector must be that a frame is speech",
        group=UTTERANCES,
        range=(0.05, 0.95),
        changeable=True,
    )
    onset_ms: int = option(
        96,
        "voiced time that opens an utterance, within twice that time; less is ignored",
        group=UTTERANCES,
        range=(0, 1_000),
    )
    pre_roll_ms: int = option(
        300,
        "audio before the first voiced frame that belongs to the utterance",
        group=UTTERANCES,
        range=(0, 2_000),
        changeable=True,
    )
    pause_ms: int = option(
        200,
        "silence after which the final is decoded early",
        group=UTTERANCES,
        range=(60, 2_000),
        changeable=True,
    )
    short_pause_ms: int = option(
        96,
        "the same while idle, or for clients that finalize; kept at its end",
        group=UTTERANCES,
        range=(60, 2_000),
        changeable=True,
    )
    endpoint_ms: int | None = option(
        500,
        "silence that ends an utterance; `null`: only a minute of it",
        group=UTTERANCES,
        range=(100, 10_000),
        changeable=True,
    )
    endpointing: str = option(
        "silence",
        "what ends utterances: `silence` alone, or turn detection too",
        group=UTTERANCES,
        changeable=True,
    )
    """A name that the sessions' `TurnDetectorFactory` knows."""
    endpoint_min_ms: int = option(
        300,
        "silence that ends an utterance if the turn is surely over",
        group=UTTERANCES,
        range=(100, 10_000),
        changeable=True,
    )
    endpoint_max_ms: int = option(
        1_500,
        "silence that ends an utterance if the turn is surely not over",
        group=UTTERANCES,
        range=(100, 60_000),
        changeable=True,
    )
    turn_threshold: float = option(
        0.5,
        "probability that the turn is over from which it counts as over",
        group=UTTERANCES,
        range=(0.05, 1),
        changeable=True,
    )
    eager_threshold: float | None = option(
        None,
        "the same from which `eager_turn_end` is sent; `null`: never",
        group=UTTERANCES,
        range=(0.05, 1),
        changeable=True,
    )
    max_utterance_s: float = option(
        30.0,
        "longer speech is cut at its best pause; a recognizer may allow less",
        group=UTTERANCES,
        range=(5, 600),
    )

    partials: bool = option(True, "whether partials are sent", group=PARTIALS, changeable=True)
    first_partial_ms: int = option(
        300, "speech before the first partial", group=PARTIALS, range=(100, 60_000), changeable=True
    )
    partial_interval_ms: int = option(
        500,
        "stream time between partials while the recognizer keeps up",
        group=PARTIALS,
        range=(100, 60_000),
        changeable=True,
    )
    withheld_words: int = option(
        1,
        "last words left out of partials during speech: the audio may end within them",
        group=PARTIALS,
        range=(0, 10),
        changeable=True,
    )
    speakers: bool = option(
        False,
        "whether finals and words say who speaks (beta)",
        group=RECOGNITION,
    )
    word_times: bool = option(False, "whether finals have the times of their words", group=RECOGNITION, changeable=True)

    itn: bool = option(
        False,
        "whether finals have numbers, dates and money in figures",
        group=TEXT,
        changeable=True,
    )
    replace: tuple[str, ...] = option(
        (),
        f"words to replace, each `from:to`; at most {MAX_REPLACEMENTS}",
        group=TEXT,
        changeable=True,
        metavar="FROM:TO",
    )
    profanity_filter: bool = option(
        False, "whether profane English words are masked by asterisks", group=TEXT, changeable=True
    )
    redact: tuple[str, ...] = option(
        (),
        f"what is left out of all texts: {', '.join(f'`{kind}`' for kind in REDACTIONS)}",
        group=TEXT,
        changeable=True,
        metavar="KIND",
    )

    translate_to: str | None = option(
        None,
        "language of translations of finals, such as `de`; the server needs `--translate-url`",
        group=TEXT,
        changeable=True,
        metavar="LANGUAGE",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.translate_to is not None:
            try:
                known = language_of(self.translate_to)
            except ValueError:
                known = None
            if known is None:
                what = "is not a language: use an ISO 639 code such as 'en', or a tag such as 'zh-TW'"
                raise OptionError("translate_to", f"{reprlib.repr(self.translate_to)} {what}")
        if self.language is not None:
            try:
                object.__setattr__(self, "language", language_of(self.language))
            except ValueError as error:
                raise OptionError("language", f"{reprlib.repr(self.language)} is {error}") from None
        if len(self.keywords) > MAX_KEYWORDS:
            raise OptionError("keywords", f"{len(self.keywords)} given; at most {MAX_KEYWORDS} are allowed")
        if any(len(keyword) > MAX_KEYWORD_CHARS for keyword in self.keywords):
            raise OptionError("keywords", f"one is longer than {MAX_KEYWORD_CHARS} characters")
        if len(self.context) > MAX_CONTEXT_CHARS:
            raise OptionError("context", f"{len(self.context)} characters; at most {MAX_CONTEXT_CHARS} are allowed")
        if len(self.replace) > MAX_REPLACEMENTS:
            raise OptionError("replace", f"{len(self.replace)} given; at most {MAX_REPLACEMENTS} are allowed")
        for replacement in self.replace:
            parse_replacement(replacement)
        for kind in self.redact:
            if kind not in REDACTIONS:
                raise OptionError("redact", f"{reprlib.repr(kind)} is not one of {', '.join(REDACTIONS)}")

    def changed(self, **changes: Any) -> SessionOptions:
        """These options with some replaced, validated again. A profile sets its options first, then `changes` do. What
        an earlier profile set, and nothing changed since, gets its default again.

        Raises:
            OptionError: a value is out of range, or there is no such profile.
        """
        if "profile" in changes:
            old, new = options_of_profile(self.profile), options_of_profile(changes["profile"])
            unset = {name: _DEFAULTS[name] for name, value in old.items() if getattr(self, name) == value}
            changes = {**unset, **new, **changes}
        return dataclasses.replace(self, **changes)


def parse_replacement(replacement: str) -> tuple[str, str]:
    """The two sides of `from:to`.

    Raises:
        OptionError: there is nothing to replace, or it is too long.
    """
    shown = reprlib.repr(replacement)
    old, colon, new = replacement.partition(":")
    if not colon:
        raise OptionError("replace", f"{shown} has no colon; write from:to")
    if not any(char.isalnum() for char in old):
        raise OptionError("replace", f"{shown} has no word before its colon; write from:to")
    if len(replacement) > MAX_REPLACEMENT_CHARS:
        raise OptionError("replace", f"{shown} is longer than {MAX_REPLACEMENT_CHARS} characters")
    return old, new


_DECLARED = options_of(SessionOptions)
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(SessionOptions)}
CHANGEABLE = frozenset(name for name, declared in _DECLARED.items() if declared.changeable)
"""Options that may change while audio flows; the others describe the stream itself."""


def nearest_allowed(name: str, value: float) -> float:
    """The value nearest to this one that an option of a session may have."""
    allowed = _DECLARED[name].range
    if allowed is None:
        return value
    # In this order a NaN becomes the lower bound.
    return min(max(allowed[0], value), allowed[1])
