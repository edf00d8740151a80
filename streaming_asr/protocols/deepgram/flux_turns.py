"""Turns of a conversation, as Deepgram's Flux has them.

A turn is the speech up to a silence that is long enough. Flux's thresholds apply to a confidence that the turn is over.
That is the turn detector's probability. Where none has judged a pause, it is a function of the silence alone, ``silence
/ (silence + half)``, such that Flux's default threshold is reached after the server's own endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.scripts import with_space
from streaming_asr.protocols.base import BadRequest
from streaming_asr.protocols.deepgram import flux_messages as wire
from streaming_asr.turns.detectors import SILENCE, judging

EOT_THRESHOLD = 0.7
EOT_TIMEOUT_MS = 5_000
EOT_RANGE, EAGER_RANGE, TIMEOUT_RANGE = (0.5, 1.0), (0.3, 0.9), (500, 60_000)
_ENDPOINT_RANGE, _PAUSE_RANGE = (100, 10_000), (60, 2_000)


@dataclass(frozen=True, slots=True)
class TurnRules:
    """When a turn is over.

    Args:
        usual_ms: the silence after which the confidence reaches Flux's default threshold.

    Raises:
        BadRequest: a threshold is out of its range.
    """

    usual_ms: int
    eot: float = EOT_THRESHOLD
    eager: float | None = None
    asked_timeout_ms: float | None = None
    """None: Flux's default, and with a turn detector the server's longest wait."""

    def __post_init__(self) -> None:
        for name, value, (low, high) in (
            ("eot_threshold", self.eot, EOT_RANGE),
            ("eager_eot_threshold", self.eager, EAGER_RANGE),
            ("eot_timeout_ms", self.asked_timeout_ms, TIMEOUT_RANGE),
        ):
            if value is not None and not low <= value <= high:
                raise BadRequest(f"{name}: {value:g} is out of range; {low:g} to {high:g} is allowed")
        if self.eager is not None and self.eager > self.eot:
            raise BadRequest(f"eager_eot_threshold: {self.eager:g} is above eot_threshold, {self.eot:g}")

    @property
    def timeout_ms(self) -> float:
        return EOT_TIMEOUT_MS if self.asked_timeout_ms is None else self.asked_timeout_ms

    @property
    def _half(self) -> float:
        return self.usual_ms * (1 - EOT_THRESHOLD) / EOT_THRESHOLD

    def confidence(self, silence_ms: float) -> float:
        """Confidence that the turn is over after this silence, 0..1."""
        return round(silence_ms / (silence_ms + self._half), 3)

    def _silence_ms(self, threshold: float) -> float:
        return self._half * threshold / (1 - threshold) if threshold < 1 else float("inf")

    @property
    def times_out(self) -> bool:
        """Whether the timeout comes before the threshold is reached."""
        return self.timeout_ms < self._silence_ms(self.eot)

    @property
    def endpoint_ms(self) -> int:
        """The silence that ends a turn which nothing judges."""
        low, high = _ENDPOINT_RANGE
        return round(max(low, min(high, self._silence_ms(self.eot), self.timeout_ms)))

    @property
    def pause_ms(self) -> int | None:
        """The silence that the eager threshold asks for; None without one."""
        if self.eager is None:
            return None
        low, high = _PAUSE_RANGE
        return max(low, min(high, self.endpoint_ms, round(self._silence_ms(self.eager))))

    def updated(self, thresholds: wire.Thresholds) -> TurnRules:
        """The rules with a client's changes.

        Raises:
            BadRequest: a threshold is out of its range.
        """
        given = thresholds
        return TurnRules(
            self.usual_ms,
            self.eot if given.eot_threshold is None else given.eot_threshold,
            self.eager if given.eager_eot_threshold is None else given.eager_eot_threshold,
            self.asked_timeout_ms if given.eot_timeout_ms is None else given.eot_timeout_ms,
        )

    def options(self, defaults: SessionOptions) -> dict[str, Any]:
        """The options of a session with these rules."""
        endpointing = judging(defaults.endpointing)
        if endpointing != SILENCE:
            most_ms = defaults.endpoint_max_ms if self.asked_timeout_ms is None else round(self.asked_timeout_ms)
            return {
                "endpointing": endpointing,
                "endpoint_ms": self.endpoint_ms,
                "endpoint_max_ms": most_ms,
                "turn_threshold": self.eot,
                "eager_threshold": self.eager,
            }
        if self.pause_ms is None:
            pauses = {"short_pause_ms": defaults.short_pause_ms, "pause_ms": defaults.pause_ms}
        else:
            # An eager end is the text of a pause: none may come before the threshold is reached.
            pauses = {"short_pause_ms": self.pause_ms, "pause_ms": self.pause_ms}
        return {"endpointing": SILENCE, "endpoint_ms": self.endpoint_ms, **pauses}


@dataclass(slots=True)
class Turn:
    index: int
    start_ms: int
    end_ms: int
    settled: str = ""
    """Finals of this turn; more than one where speech was cut, for its length or at a long pause."""
    settled_words: list[wire.Word] = field(default_factory=list)
    text: str = ""
    words: list[wire.Word] = field(default_factory=list)
    language: str | None = None
    begun: bool = False
    """Whether `StartOfTurn` was sent."""
    eager: bool = False
    """Whether an eager end was sent to the client."""

    def update(self, text: str, words: list[wire.Word], end_ms: int, language: str | None) -> None:
        """Take the latest text of the current utterance."""
        self.text = self.settled + with_space(self.settled, text)
        self.words = [*self.settled_words, *words]
        self.end_ms = end_ms
        self.language = language or self.language

    def settle(self) -> None:
        """Keep the text so far: it is final."""
        self.settled, self.settled_words = self.text, self.words
