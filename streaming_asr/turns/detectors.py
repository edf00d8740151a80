"""The turn detectors by name. How to add one is in docs/extending/turn_detector.md."""

from __future__ import annotations

from contextlib import suppress

from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.turn import TurnDetector, TurnDetectorFactory, silence_alone
from streaming_asr.turns.smart_turn import SmartTurn

SILENCE, USUAL = "silence", "turn"
TURN_DETECTORS: dict[str, TurnDetectorFactory] = {
    SILENCE: silence_alone,
    USUAL: SmartTurn,
}
"""The names are the values of the option `endpointing`; they are only here."""


def make_turn_detector(options: SessionOptions) -> TurnDetector | None:
    """A new turn detector, as the options ask; None where silence alone decides.

    Raises:
        OptionError: there is no turn detector of that name.
    """
    factory = TURN_DETECTORS.get(options.endpointing)
    if factory is None:
        raise OptionError("endpointing", f"{options.endpointing!r} is not one of {', '.join(TURN_DETECTORS)}")
    return factory(options)


def judging(default: str) -> str:
    """The turn detector for clients that ask for turns without naming one: `default` if it judges pauses, else the
    usual one if it can run here, else `default`.
    """
    if default == SILENCE:
        with suppress(OptionError):
            make_turn_detector(SessionOptions(endpointing=USUAL))
            return USUAL
    return default
