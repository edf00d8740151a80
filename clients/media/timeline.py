# A copy of streaming_asr/engine/media/timeline.py, by `python -m tests.support.copies`: clients stand alone.
"""Timestamps of decoded audio -> where silence is missing and where audio comes twice."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_S = 0.1
"""Most timestamps differ by up to this from the number of samples: containers round them, and encoders add delay."""
MAX_HOLE_S = 3600.0
"""A longer hole is closed instead of filled: it is a clock that was set, not a pause."""
MAX_OVERLAP_S = 1.0
"""Audio this much before its turn comes twice and is dropped. Earlier audio is a recording that starts anew."""
_RESTART_S = 0.05


@dataclass(frozen=True)
class Placement:
    """What to do before the next audio is used."""

    silence_s: float = 0.0
    """Silence to insert first."""
    drop_s: float = 0.0
    """Seconds to drop from the beginning of the audio, which may be all of it."""


class Timeline:
    """Where the next decoded audio belongs.

    Args:
        zero_s: timestamp of the recording's beginning, seconds; None if it begins with its first audio.
        tolerance_s: by which timestamps may differ from the number of samples.
        max_hole_s: length of the longest hole that is filled.
    """

    def __init__(self, zero_s: float | None, tolerance_s: float = TOLERANCE_S, max_hole_s: float = MAX_HOLE_S) -> None:
        self.position_s = 0.0
        """Length of the audio so far, with the silence inserted."""
        self._zero_s = zero_s
        self._tolerance_s = tolerance_s
        self._max_hole_s = max_hole_s
        self._first_s: float | None = None
        """Timestamp of the first audio since the timeline last started."""
        self._dropping = False

    @property
    def time_s(self) -> float:
        """Timestamp that belongs to the position."""
        return self.position_s + (self._zero_s or 0.0)

    def place(self, at_s: float, length_s: float) -> Placement:
        """Place the next audio by its timestamp, and advance the position over it.

        Args:
            at_s: timestamp.
            length_s: of the audio.
        """
        if self._first_s is None:
            self._first_s = at_s
            if self._zero_s is None:
                self._zero_s = at_s
        placement = self._compared(at_s, length_s)
        self.advance(placement.silence_s + length_s - placement.drop_s)
        return placement

    def advance(self, length_s: float) -> None:
        """Add audio, or silence, that has no timestamp of its own."""
        self.position_s += length_s

    def _compared(self, at_s: float, length_s: float) -> Placement:
        assert self._zero_s is not None
        assert self._first_s is not None
        ahead_s = at_s - self._zero_s - self.position_s
        if self._dropping:
            self._dropping = -MAX_OVERLAP_S <= ahead_s < 0
        if self._dropping or (-MAX_OVERLAP_S <= ahead_s < -self._tolerance_s and at_s > self._first_s + _RESTART_S):
            self._dropping = -ahead_s > length_s
            return Placement(drop_s=min(-ahead_s, length_s))
        if self._tolerance_s < ahead_s <= self._max_hole_s:
            return Placement(silence_s=ahead_s)
        if abs(ahead_s) > self._tolerance_s:
            self._zero_s, self._first_s = at_s - self.position_s, at_s
        return Placement()
