"""Voiced and unvoiced frames -> utterances: onset, pause, endpoint, forced cut.

Positions are 16 kHz samples of the channel. Utterances never overlap, and every frame that is voiced while an
utterance is open, or whose run opened it, belongs to exactly one; only runs too short to be speech belong to none.

Silence after the kept tail does not count towards the longest utterance. Speech that goes on too late to belong to the
utterance, because it would get too long or after a long pause, must last as long as an onset. Then the utterance is cut
at its pause, and another begins.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE

CUT_SEARCH_S = 8.0
"""A forced cut looks for its pause in this much audio before the limit, and in half the longest utterance at most."""
LONG_PAUSE_S = 10.0
"""Speech after so much silence belongs to another utterance: a decode of both would mostly be of silence."""
LONGEST_SILENCE_MS = 60_000
"""Silence that ends an utterance where no `endpoint_ms` is set; as long as the longest wait for the end of a turn."""
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
    LONG_PAUSE = "long_pause"
    ASK = "ask"
    RESUME = "resume"
    END = "end"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Boundary:
    mark: Mark
    position: int
    """ONSET: the utterance's first sample, pre-roll included. SHORT_PAUSE, PAUSE, LONG_PAUSE, END, CUT: where it would
    end, or ends (exclusive). ASK: the end of the silence so far. RESUME: the first sample that is voiced again.

    No RESUME follows a LONG_PAUSE, and an ONSET follows each CUT at once."""
    speech: int
    """ONSET: the first voiced sample. SHORT_PAUSE, PAUSE, LONG_PAUSE, ASK, END, CUT: the end of the last voiced frame.
    RESUME: as `position`."""


def samples_of(ms: float) -> int:
    return round(ms * SAMPLE_RATE / 1000)


_LONG_PAUSE = samples_of(1000 * LONG_PAUSE_S)


class Segmenter:
    """Finds the utterances of one channel, frame by frame.

    Args:
        frame_samples: length of each frame.
        options: `onset_ms`, `pre_roll_ms`, `short_pause_ms`, `pause_ms`, `endpoint_ms`, `max_utterance_s`.
        asks_at_ms: lengths of a silence that are marked, ascending; none before its SHORT_PAUSE or after its
            LONG_PAUSE.
    """

    def __init__(self, frame_samples: int, options: SessionOptions, asks_at_ms: Sequence[int] = ()) -> None:
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
        self._tail = 0
        """The short pause that it has lasted for, which is kept at the utterance's end."""
        self._asked = 0
        """How many of `asks_at_ms` this silence has reached."""
        self._wait: int | None = None
        """Silence that ends the utterance at this pause, samples; None: the endpoint's."""
        self._configure(options, asks_at_ms)
        self._recent: deque[bool] = deque(maxlen=self._onset_window)
        """Whether the last frames, in which speech may begin, are voiced; none while the open utterance may go on."""
        searched = min(samples_of(CUT_SEARCH_S * 1000), self._longest // 2)
        self._history: deque[tuple[bool, float]] = deque(maxlen=max(1, searched // frame_samples))

    def _configure(self, options: SessionOptions, asks_at_ms: Sequence[int]) -> None:
        self._asks_at = [samples_of(ms) for ms in asks_at_ms]
        self._onset_frames = max(1, -(-samples_of(options.onset_ms) // self._frame))
        self._onset_window = 2 * self._onset_frames
        self._pre_roll = samples_of(options.pre_roll_ms)
        self._endpoint = samples_of(LONGEST_SILENCE_MS if options.endpoint_ms is None else options.endpoint_ms)
        self._pause = min(samples_of(options.pause_ms), self._endpoint)
        self._short_pause = min(samples_of(options.short_pause_ms), self._pause)
        self._longest = samples_of(options.max_utterance_s * 1000)

    def reconfigure(self, options: SessionOptions, asks_at_ms: Sequence[int] = ()) -> None:
        """Use other options, but for `onset_ms` and `max_utterance_s`, and `asks_at_ms` from the next frame on."""
        self._configure(options, asks_at_ms)

    def wait_for(self, ms: float | None) -> None:
        """End the utterance at this pause once the silence has lasted `ms` in all, or after `endpoint_ms` if it is
        None. Speech that goes on cancels it.
        """
        self._wait = None if ms is None else samples_of(ms)

    def end_if_due(self) -> list[Boundary]:
        """End the utterance now if the silence has lasted long enough, as it may have once `wait_for` was called.

        Call it only when all audio received has been pushed, but for an unfinished frame: speech may have gone on.
        """
        if self.open and self._silence is not None and self._long_enough(self.position - self._voiced_end):
            return [self._end(Mark.END, self._voiced_end + self._kept)]
        return []

    def claim_from(self, position: int) -> None:
        """No utterance may begin before `position`: earlier audio is not kept."""
        self._floor = max(self._floor, position)

    @property
    def in_short_pause(self) -> bool:
        """Whether the open utterance's silence has lasted for a short pause, and not for a pause yet."""
        return self._silence is Mark.SHORT_PAUSE

    @property
    def in_speech(self) -> bool:
        """Whether somebody is in mid-word as far as can be known: the last frames were voiced, and no short pause has
        followed."""
        if self.open and self._silence is None:
            return True
        return bool(self._recent) and self._recent[-1]

    @property
    def look_back(self) -> int:
        """Samples before `position` that an onset may still claim."""
        return self._pre_roll + self._onset_window * self._frame

    def push(self, voiced: NDArray[np.bool_], energies: NDArray[np.float32]) -> list[Boundary]:
        """Take the next frames.

        Args:
            voiced: shape ``[k]``.
            energies: each frame's mean squared sample, shape ``[k]``, for forced cuts.
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
        return boundaries

    def finalize(self, position: int) -> list[Boundary]:
        """End the open utterance now. A run of voiced frames too short for an onset counts as one here.

        Args:
            position: end of the audio received, at most one frame beyond the last frame pushed.
        """
        boundaries: list[Boundary] = []
        if any(self._recent):
            if self.open:
                self._cut_at_pause(boundaries)
            else:
                self._begin(boundaries)
        if self.open:
            boundaries.append(self._end(Mark.END, min(position, self._voiced_end + self._kept)))
        # Samples of an unfinished frame belong to what ended here; a later utterance must not have them too.
        self._floor = max(self._floor, position)
        self._recent.clear()
        return boundaries

    def clear(self, position: int) -> None:
        """Drop the open utterance and any voiced frames before one; the next begins at `position` or later."""
        self.open = False
        self._silence = None
        self._asked = 0
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
        self._recent.clear()
        self.open = True
        boundaries.append(Boundary(Mark.ONSET, self._start, first))

    def _in_speech(self, voiced: bool, energy: float, boundaries: list[Boundary]) -> None:
        self._history.append((voiced, energy))
        if self._too_late:
            self._recent.append(voiced)
            if voiced and sum(self._recent) >= self._onset_frames:
                self._cut_at_pause(boundaries)
            else:
                self._go_silent(boundaries)
        elif voiced:
            self._go_on(boundaries)
        else:
            self._go_silent(boundaries)
        if self.open and self._silence is None and self._length + self._frame > self._longest:
            self._cut(boundaries)

    @property
    def _too_late(self) -> bool:
        """Whether speech here can't belong to the open utterance any more."""
        full = self._silence is not None and self._length > self._longest
        return full or self._silence is Mark.LONG_PAUSE

    def _go_on(self, boundaries: list[Boundary]) -> None:
        if self._silence is not None:
            self._silence = None
            self._asked = 0
            self._wait = None
            resumed = self.position - self._frame
            boundaries.append(Boundary(Mark.RESUME, resumed, resumed))
        self._voiced_end = self.position

    def _go_silent(self, boundaries: list[Boundary]) -> None:
        silence = self.position - self._voiced_end
        if self._long_enough(silence):
            boundaries.append(self._end(Mark.END, self._voiced_end + self._kept))
            return
        if self._silence is None and silence >= self._short_pause:
            self._mark(Mark.SHORT_PAUSE, boundaries)
        if self._silence is Mark.SHORT_PAUSE and silence >= self._pause:
            self._mark(Mark.PAUSE, boundaries)
        if self._silence is Mark.PAUSE and silence >= _LONG_PAUSE:
            self._mark(Mark.LONG_PAUSE, boundaries)
        if self._silence is Mark.SHORT_PAUSE or self._silence is Mark.PAUSE:
            self._ask(silence, boundaries)

    @property
    def _length(self) -> int:
        """Of the open utterance up to here, with all its silence."""
        return self.position - self._start

    @property
    def _kept(self) -> int:
        """Silence kept at the utterance's end. Options can't change it in mid-pause: a final may be decoded."""
        return self._short_pause if self._silence is None else self._tail

    def _mark(self, mark: Mark, boundaries: list[Boundary]) -> None:
        self._tail, self._silence = self._kept, mark
        boundaries.append(Boundary(mark, self._voiced_end + self._kept, self._voiced_end))

    def _long_enough(self, silence: int) -> bool:
        return silence >= (self._endpoint if self._wait is None else self._wait)

    def _ask(self, silence: int, boundaries: list[Boundary]) -> None:
        """Mark the silence if it has reached the next length to mark; of several at once, one."""
        reached = sum(silence >= ask for ask in self._asks_at)
        if reached > self._asked:
            self._asked = reached
            boundaries.append(Boundary(Mark.ASK, self.position, self._voiced_end))

    def _end(self, mark: Mark, position: int) -> Boundary:
        self.open = False
        self._silence = None
        self._asked = 0
        self._wait = None
        # After a long pause, `claim_from` may have set it to a later position.
        self._floor = max(self._floor, position)
        self._history.clear()
        return Boundary(mark, position, min(position, self._voiced_end))

    def _cut(self, boundaries: list[Boundary]) -> None:
        """End the utterance at the best pause of its last seconds; what follows is the next one."""
        cut = self._best_pause()
        if self._voiced_end <= cut:
            # Nothing voiced remains: the pause has begun, with a shorter tail.
            self._tail, self._silence = cut - self._voiced_end, Mark.SHORT_PAUSE
            boundaries.append(Boundary(Mark.SHORT_PAUSE, cut, self._voiced_end))
            return
        voiced_end = self._voiced_end
        recent = [voiced for voiced, _ in self._history][-((self.position - cut) // self._frame) :]
        searched = self.position - len(recent) * self._frame
        first = searched + recent.index(True) * self._frame
        boundaries.append(Boundary(Mark.CUT, cut, min(cut, voiced_end)))
        self._floor = self._start = cut
        self._silence = None
        self._asked = 0
        self._wait = None
        boundaries.append(Boundary(Mark.ONSET, cut, first))
        self._history.clear()

    def _cut_at_pause(self, boundaries: list[Boundary]) -> None:
        """End the utterance at its pause, and begin the next with the speech that came too late for it."""
        boundaries.append(self._end(Mark.CUT, self._voiced_end + self._kept))
        self._begin(boundaries)

    def _best_pause(self) -> int:
        """Frame boundary in the quietest spot of the last `CUT_SEARCH_S`; the later one where equal, and its end if it
        is a silence that has not ended."""
        voiced, energies = np.array(self._history, np.float64).T
        levels = 10 * np.log10(np.maximum(energies, _SILENT)) - _UNVOICED_BONUS_DB * (1 - voiced)
        span = min(len(levels), max(1, samples_of(_QUIET_SPAN_MS) // self._frame))
        means = np.convolve(levels, np.ones(span) / span, mode="valid")
        quietest = len(means) - 1 - int(np.argmin(means[::-1]))
        if quietest == len(means) - 1 and not voiced[-1]:
            # It may just have begun: its middle may still be speech.
            return self.position
        frames_after = len(levels) - (quietest + span // 2)
        return self.position - frames_after * self._frame
