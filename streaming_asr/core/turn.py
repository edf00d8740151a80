"""The port between the core and end-of-turn detection: how sure it is, at a pause, that the speaker is done.

A turn detector only estimates a probability; `turn_policy.py` makes of it how long the silence must last. A session
asks at a pause and goes on receiving: an estimate takes a thread tens of milliseconds, and it may never come. Until it
does, silence alone decides. So a session gives out `TurnQuestion`s, and whoever runs it reports the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Audio


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence within an utterance, which may be its end."""

    audio: Audio
    """The utterance so far, 16 kHz, shape ``[n]``, up to the end of the silence so far. Read-only."""
    silence_ms: int
    """How long the silence has lasted."""
    text: str
    """The latest text of the utterance, "" if there is none yet. It may lack the last words."""
    language: str | None
    """ISO 639-1 code of the text's language, where it is known."""


class TurnDetector(Protocol):
    """Judges pauses. Several threads may call it at once, for different channels, so it keeps nothing of any."""

    @property
    def asks_at_ms(self) -> tuple[int, ...]:
        """Lengths of the silence at which it is asked, ascending, but not before `short_pause_ms` or after 10 s. Later
        answers of a pause replace earlier ones.
        """

    def probability(self, pause: Pause) -> float:
        """How likely it is that the speaker is done, 0..1. May take tens of milliseconds: no event loop calls it."""


@dataclass(frozen=True, slots=True)
class TurnQuestion:
    """A pause to be judged. Report the answer, if there is one, by `Session.judged`."""

    channel: int
    number: int
    """Counts from 1 on each channel."""
    detector: TurnDetector
    pause: Pause

    def answer(self) -> float:
        """Ask the detector, which blocks."""
        return self.detector.probability(self.pause)


TurnDetectorFactory = Callable[[SessionOptions], TurnDetector | None]
"""Makes the turn detector of a session; None where silence alone decides, after `endpoint_ms`.

Raises `OptionError` if the options name none, or one that can't run here. It must not block.
"""


def silence_alone(options: SessionOptions) -> TurnDetector | None:
    """The factory for sessions without turn detection."""
    return None
