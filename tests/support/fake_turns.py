"""Turn detectors for tests of what chooses one."""

from __future__ import annotations

from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.turn import Pause


class FakeTurnDetector:
    """Takes every pause for the end."""

    asks_at_ms = (200,)

    def __init__(self, options: SessionOptions) -> None:
        pass

    def probability(self, pause: Pause) -> float:
        return 1.0


def cannot_run(options: SessionOptions) -> FakeTurnDetector:
    """The factory of a detector that needs what is not installed."""
    raise OptionError("endpointing", "it needs onnxruntime")
