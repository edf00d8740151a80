"""What had to be put right in a recording, in stretches, for the user."""

from __future__ import annotations

from dataclasses import dataclass

MAX_REPAIRS = 20
"""Repairs that are reported one by one; the others are counted."""
MERGED_S = 0.5
"""Repairs of a kind within this time are one stretch."""

DAMAGED, GAP, OVERLAP, CUT_OFF, MORE = "audio_damaged", "audio_gap", "audio_overlap", "audio_cut_off", "more_repairs"
NOT_FINITE, OVERSCALED, UNREAD = "audio_not_finite", "audio_clipped", "audio_unread"
SILENT_TRACK = "silent_track"
_MESSAGES = {
    DAMAGED: "The recording is damaged at {at}: {length:.2f} s could not be decoded.",
    GAP: "The recording has a hole of {length:.1f} s at {at}, which was filled with silence.",
    OVERLAP: "The recording repeats {length:.1f} s at {at}, which were dropped.",
    NOT_FINITE: "The recording has NaN or infinite samples at {at}, which were replaced.",
    OVERSCALED: "The recording is far above full scale from {at} on, and clipped; float samples must be in -1..1.",
    UNREAD: "The recording is damaged at {at}; what follows could not be read.",
    SILENT_TRACK: "An audio track of the recording is silent from beginning to end; the next one was read instead.",
    CUT_OFF: "The recording is cut off at {at}; {length:.1f} s are missing.",
}


@dataclass(frozen=True)
class Repair:
    """Something that was damaged or did not fit, and was put right as far as possible."""

    code: str
    at_s: float
    length_s: float
    message: str


class Repairs:
    """The repairs of one recording, in the order of their places."""

    def __init__(self) -> None:
        self._code = ""
        self._at_s = self._end_s = self._length_s = 0.0
        """The stretch that may still grow."""
        self._closed: list[Repair] = []
        self._count = 0

    def note(self, code: str, at_s: float, length_s: float) -> None:
        """Note a repair at a place of the recording, seconds."""
        if code != self._code or at_s > self._end_s + MERGED_S:
            self._close()
            self._code, self._at_s, self._length_s = code, at_s, 0.0
        self._length_s += length_s
        self._end_s = at_s + length_s

    def take(self, position_s: float | None) -> list[Repair]:
        """Those that are complete at this position, or at the end (None). Each is returned once."""
        if position_s is None or position_s > self._end_s + MERGED_S:
            self._close()
        if position_s is None and self._count > MAX_REPAIRS:
            more = self._count - MAX_REPAIRS
            self._closed.append(Repair(MORE, self._end_s, 0.0, f"{more} further places were repaired."))
        closed, self._closed = self._closed, []
        return closed

    def _close(self) -> None:
        if not self._code:
            return
        self._count += 1
        if self._count <= MAX_REPAIRS:
            message = _MESSAGES[self._code].format(at=_clock(self._at_s), length=self._length_s)
            self._closed.append(Repair(self._code, self._at_s, self._length_s, message))
        self._code = ""


def _clock(seconds: float) -> str:
    hours, rest = divmod(max(0.0, seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{int(hours)}:{int(minutes):02}:{rest:04.1f}" if hours else f"{int(minutes)}:{rest:04.1f}"
