"""The gain that brings a voice to the level that a network knows, whatever the microphone.

Silero judges voices alike over some 30 dB of level, and misses more and more below. So the gain need not be exact, but
steady: it follows the loudest tenth of the voiced frames by small steps (a quantile by stochastic approximation,
Robbins and Monro 1951), and never follows noise alone. Before anybody spoke, it depends on how quiet the room is,
within narrow limits.
"""

from __future__ import annotations

from streaming_asr.core.recognizer import SAMPLE_RATE

_TARGET_DB = -20.0
"""Level, in dB of full scale, that a tenth of the voiced frames shall exceed."""
_STEP_DB = 1.0
_QUANTILE = 0.9
"""A voiced frame above the target lowers the gain by this much of a step; one below raises it by the rest of one."""
_CEILING_DB = -10.0
"""No frame is made louder than this, voiced or not."""
_MOST_DB = 50.0
_AT_REST_DB = 20.0, 35.0
"""While nobody speaks, a lower gain rises to a value between these: the quieter the room, the higher."""
_REST_FLOOR_DB = -70.0
"""Level to which the room's noise is then raised."""
_RETURN_DB_PER_S = 12.0
"""How fast the gain rises again after something loud."""


class VoiceGain:
    """The gain of one channel.

    Args:
        frame_samples: length of the frames whose levels it is given.
    """

    def __init__(self, frame_samples: int) -> None:
        self.db = _AT_REST_DB[0]
        self._return = _RETURN_DB_PER_S * frame_samples / SAMPLE_RATE

    def limit(self, level: float) -> None:
        """Be low enough for a frame at once.

        Args:
            level: of the frame with its DC offset, which takes its part of full scale, in dB of full scale.
        """
        self.db = max(0.0, min(self.db, _CEILING_DB - level))

    def follow(self, level: float, floor: float, *, voiced: bool) -> None:
        """Learn from a frame for those that follow.

        Args:
            level: of the frame, dB of full scale.
            floor: the noise floor, dB of full scale.
            voiced: whether the frame surely is a voice.
        """
        if voiced:
            change = -_QUANTILE if level + self.db > _TARGET_DB else 1 - _QUANTILE
            self.db = min(max(self.db + _STEP_DB * change, 0.0), _MOST_DB)
            return
        low, high = _AT_REST_DB
        rest = min(max(_REST_FLOOR_DB - floor, low), high)
        if self.db < rest:
            self.db = min(rest, self.db + self._return)
