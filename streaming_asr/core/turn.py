"""The port between the core and end-of-turn detection: how long a silence must last for an utterance to end.

A turn detector is asked once at each pause, as soon as the silence has lasted `pause_ms`. Like a voice detector it may
yield queries to a network (see `voice.py`), so it is tested without one and answered in batches by a server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Audio
from streaming_asr.core.voice import Detection

MOST_WAIT_MS = 60_000
"""The longest silence that a turn detector may ask for."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence within an utterance, which may be its end."""

    audio: Audio
    """The utterance so far, 16 kHz, shape ``[n]``: from its first sample to the end of the silence so far."""
    silence_ms: int
    """How long the silence has lasted."""
    text: str
    """The latest text of the utterance, "" if there is none yet. It may lack the last words."""
    language: str | None
    """ISO 639-1 code of the text's language, where it is known."""


class TurnDetector(Protocol):
    """Decides for one channel how long each pause must last to end the utterance."""

    def wait_ms(self, pause: Pause) -> Detection[float]:
        """How long the silence must last in all, ms. The answer is valid until speech goes on.

        Values below `pause.silence_ms` end the utterance at the next frame; those above `MOST_WAIT_MS` count as that.
        """


TurnDetectorFactory = Callable[[SessionOptions], TurnDetector | None]
"""Makes the turn detector of one channel; None where silence alone decides, after `endpoint_ms`.

Raises `OptionError` if the options name none.
"""


def silence_alone(options: SessionOptions) -> TurnDetector | None:
    """The factory for sessions without turn detection."""
    return None
