"""When a probability of speech means voiced."""

from __future__ import annotations

HYSTERESIS = 0.15
"""Once voiced, a frame stays voiced down to this much below the threshold."""
_SURELY_VOICED, _SURELY_UNVOICED = 0.9, 0.01


class Threshold:
    """A threshold with hysteresis.

    Args:
        on: probability from which a frame is voiced, 0 to 1.
        hysteresis: how far below it a frame is voiced that follows a voiced one.

    Raises:
        ValueError: `on` is out of range.
    """

    def __init__(self, on: float, hysteresis: float = HYSTERESIS) -> None:
        if not 0 < on < 1:
            raise ValueError(f"Silero's threshold is {on}; it must be between 0 and 1")
        self._on, self._off = on, max(_SURELY_UNVOICED, on - hysteresis)

    def reached(self, probability: float, voiced: bool) -> bool:
        """Whether a frame is voiced, given whether the one before was."""
        return probability >= (self._off if voiced else self._on)

    def sure(self, probability: float) -> bool:
        """Whether the next frames hardly can be decided otherwise."""
        return probability < _SURELY_UNVOICED or probability >= max(self._on, _SURELY_VOICED)
