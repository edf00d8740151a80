"""Voiced and unvoiced frames -> utterances: onset, pause, endpoint, forced cut.

Positions are 16 kHz samples of the channel. Utterances never overlap, and every frame that is voiced while an
utterance is open, or whose run opened it, belongs to exactly one; only runs too short to be speech belong to none.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE

CUT_SEARCH_S = 8.0
"""A forced cut looks for its pause in this much audio before the limit, and in half the longest utterance at most."""
_QUIET_SPAN_MS = 160
"""A pause is judged by the mean level of this much audio around it."""
_UNVOICED_BONUS_DB = 10.0
"""How much quieter a frame counts for being unvoiced."""
_SILENT = 1e-12
"""Below this energy, -120 dB, all is equally silent."""


class Mark(enum.Enum):
    """The kind of a boundary."""

    ONSET = "onset"
    SHORT_PAUSE = "short_pause"
    PAUSE = "pause"
    RESUME = "resume"
    END = "end"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Boundary:
    mark: Mark
    position: int
    """ONSET: the utterance's first sample, pre-roll included. SHORT_PAUSE, PAUSE, END, CUT: where it would end, or ends
    (exclusive). RESUME: the first sample that is voiced again."""
    speech: int
    """ONSET: the first voiced sample. SHORT_PAUSE, PAUSE, END, CUT: the end of the last voiced frame. RESUME: as
    `position`."""


def samples_of(ms: float) -> int:
    return round(ms * SAMPLE_RATE / 1000)


class Segmenter:
    """Finds the utterances of one channel, frame by frame.

    Args:
        frame_samples: length of each frame.
        options: `onset_ms`, `pre_roll_ms`, `short_pause_ms`, `pause_ms`, `endpoint_ms`, `max_utterance_s`.
    """

    def __init__(self, frame_samples: int, options: SessionOptions) -> None:
        self._frame = frame_samples
        self.position = 0
        """End of the last frame seen."""
        self.open = False
        """Whether an utterance is open."""
        self._floor = 0
        """No utterance may begin before this: the end of the last one."""
        self._start = 0
        self._voiced_end = 0
        self._silence: Mark | None = None
        """The longest pause that the open utterance's silence has lasted for."""
        self._wait: int | None = None
        """Silence that ends the utterance at this pause, samples; None: the endpoint's."""
        self._configure(options)
        self._recent: deque[bool] = deque(maxlen=self._onset_window)
        searched = min(samples_of(CUT_SEARCH_S * 1000), self._longest // 2)
        self._history: deque[tuple[bool, float]] = deque(maxlen=max(1, searched // frame_samples))

    def _configure(self, options: SessionOptions) -> None:
        self._onset_frames = max(1, -(-samples_of(options.onset_ms) // self._frame))
        self._onset_window = 2 * self._onset_frames
        self._pre_roll = samples_of(options.pre_roll_ms)
        self._endpoint = None if options.endpoint_ms is None else samples_of(options.endpoint_ms)
        self._pause = samples_of(options.pause_ms)
        if self._endpoint is not None:
            self._pause = min(self._pause, self._endpoint)
        self._short_pause = min(samples_of(options.short_pause_ms), self._pause)
        self._longest = samples_of(options.max_utterance_s * 1000)

    def reconfigure(self, options: SessionOptions) -> None:
        """Use other `pre_roll_ms`, `short_pause_ms`, `pause_ms` and `endpoint_ms` from the next frame on."""
        self._configure(options)

    def wait_for(self, ms: float) -> None:
        """End the utterance at this pause once the silence has lasted `ms` in all. Speech that goes on cancels it."""
        self._wait = samples_of(ms)

    def claim_from(self, position: int) -> None:
        """No utterance may begin before `position`: earlier audio is not kept."""
        self._floor = max(self._floor, position)

    @property
    def in_short_pause(self) -> bool:
        """Whether the open utterance's silence has lasted for a short pause, and not for a pause yet."""
        return self._silence is Mark.SHORT_PAUSE

    @property
    def look_back(self) -> int:
        """Samples before `position` that an onset may still claim."""
        return self._pre_roll + self._onset_window * self._frame

    def push(
        self, voiced: NDArray[np.bool_], energies: NDArray[np.float32], *, stop_at_pause: bool = False
    ) -> list[Boundary]:
        """Take the next frames.

        Args:
            voiced: shape ``[k]``.
            energies: each frame's mean squared sample, shape ``[k]``, for forced cuts.
            stop_at_pause: take no frame after one that makes a pause, so that `wait_for` can be called; `position`
                shows how many were taken.
        """
        boundaries: list[Boundary] = []
        frames = list(zip(voiced.tolist(), energies.tolist(), strict=True))
        if not self.open and not voiced.any():
            self.position += len(frames) * self._frame
            self._recent.extend(is_voiced for is_voiced, _ in frames)
            self._history.extend(frames)
            return boundaries
        for is_voiced, energy in frames:
            self.position += self._frame
            if self.open:
                self._in_speech(is_voiced, energy, boundaries)
            else:
                self._in_silence(is_voiced, energy, boundaries)
            if stop_at_pause and boundaries and boundaries[-1].mark is Mark.PAUSE:
                break
        return boundaries

    def finalize(self, position: int) -> list[Boundary]:
        """End the open utterance now. A run of voiced frames too short for an onset counts as one here.

        Args:
            position: end of the audio received, at most one frame beyond the last frame pushed.
        """
        boundaries: list[Boundary] = []
        if not self.open and any(self._recent):
            self._begin(boundaries)
        if self.open:
            boundaries.append(self._end(Mark.END, min(position, self._voiced_end + self._short_pause)))
        # Samples of an unfinished frame belong to what ended here; a later utterance must not have them too.
        self._floor = max(self._floor, position)
        self._recent.clear()
        return boundaries

    def clear(self, position: int) -> None:
        """Drop the open utterance and any voiced frames before one; the next begins at `position` or later."""
        self.open = False
        self._silence = None
        self._wait = None
        self._floor = max(self._floor, position)
        self._recent.clear()
        self._history.clear()

    def _in_silence(self, voiced: bool, energy: float, boundaries: list[Boundary]) -> None:
        self._recent.append(voiced)
        self._history.append((voiced, energy))
        if voiced and sum(self._recent) >= self._onset_frames:
            self._begin(boundaries)

    def _begin(self, boundaries: list[Boundary]) -> None:
        recent = list(self._recent)
        first = self.position - (len(recent) - recent.index(True)) * self._frame
        last = self.position - (recent[::-1].index(True)) * self._frame
        first = max(first, self._floor)
        self._start = max(first - self._pre_roll, self._floor)
        self._voiced_end = last
        self._silence = None
        self.open = True
        boundaries.append(Boundary(Mark.ONSET, self._start, first))

    def _in_speech(self, voiced: bool, energy: float, boundaries: list[Boundary]) -> None:
        self._history.append((voiced, energy))
        if voiced:
            if self._silence is not None:
                self._silence = None
                self._wait = None
                resumed = self.position - self._frame
                boundaries.append(Boundary(Mark.RESUME, resumed, resumed))
            self._voiced_end = self.position
        else:
            silence = self.position - self._voiced_end
            endpoint = self._endpoint if self._wait is None else self._wait
            if endpoint is not None and silence >= endpoint:
                boundaries.append(self._end(Mark.END, self._voiced_end + self._short_pause))
                return
            if self._silence is None and silence >= self._short_pause:
                self._mark(Mark.SHORT_PAUSE, boundaries)
            if self._silence is Mark.SHORT_PAUSE and silence >= self._pause:
                self._mark(Mark.PAUSE, boundaries)
        if self.position - self._start + self._frame > self._longest:
            self._cut(boundaries)

    def _mark(self, mark: Mark, boundaries: list[Boundary]) -> None:
        self._silence = mark
        boundaries.append(Boundary(mark, self._voiced_end + self._short_pause, self._voiced_end))

    def _end(self, mark: Mark, position: int) -> Boundary:
        self.open = False
        self._silence = None
        self._wait = None
        self._floor = position
        self._recent.clear()
        self._history.clear()
        return Boundary(mark, position, min(position, self._voiced_end))

    def _cut(self, boundaries: list[Boundary]) -> None:
        """End the utterance at the best pause of its last seconds; what follows is the next one."""
        cut = self._best_pause()
        if self._voiced_end <= cut:
            # Nothing voiced remains: an end like any other, and silence goes on from here.
            boundaries.append(self._end(Mark.CUT, cut))
            return
        voiced_end = self._voiced_end
        recent = [voiced for voiced, _ in self._history][-((self.position - cut) // self._frame) :]
        searched = self.position - len(recent) * self._frame
        first = searched + recent.index(True) * self._frame
        boundaries.append(Boundary(Mark.CUT, cut, min(cut, voiced_end)))
        self._floor = self._start = cut
        self._silence = None
        self._wait = None
        boundaries.append(Boundary(Mark.ONSET, cut, first))
        self._history.clear()

    def _best_pause(self) -> int:
        """Frame boundary in the quietest spot of the last `CUT_SEARCH_S`; the later one where equal."""
        voiced, energies = np.array(self._history, np.float64).T
        levels = 10 * np.log10(np.maximum(energies, _SILENT)) - _UNVOICED_BONUS_DB * (1 - voiced)
        span = min(len(levels), max(1, samples_of(_QUIET_SPAN_MS) // self._frame))
        means = np.convolve(levels, np.ones(span) / span, mode="valid")
        quietest = len(means) - 1 - int(np.argmin(means[::-1]))
        frames_after = len(levels) - (quietest + span // 2)
        return self.position - frames_after * self._frame
