"""The recent audio of one channel: appended at one end, forgotten at the other."""

from __future__ import annotations

import numpy as np

from streaming_asr.core.recognizer import Audio

_SPARE = 32_000
"""Samples of room that growing adds at least."""
_ROOMY = 4
"""A buffer that has so many times the room that is needed is given back."""


class AudioTape:
    """Samples ``[start, end)`` of a stream, at 16 kHz; positions count from the stream's first sample.

    Slices are views that stay valid: written samples are never overwritten, and growing moves to a new buffer.
    """

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self._buffer: Audio = np.empty(_SPARE, np.float32)
        self._offset = 0
        """Stream position of the buffer's first sample."""

    def append(self, samples: Audio) -> None:
        used = self.end - self._offset
        if used + len(samples) > len(self._buffer):
            self._move(max(2 * (len(self) + len(samples)), _SPARE))
            used = len(self)
        self._buffer[used : used + len(samples)] = samples
        self.end += len(samples)

    def forget_before(self, position: int) -> None:
        """Samples before `position` will not be asked for again."""
        self.start = min(max(self.start, position), self.end)
        # A long utterance has its final: of a thousand quiet sessions each would keep its room.
        if len(self._buffer) > _ROOMY * max(len(self), _SPARE):
            self._move(max(2 * len(self), _SPARE))

    def _move(self, size: int) -> None:
        """Go on in a new buffer of so many samples, at least those held."""
        moved = np.empty(size, np.float32)
        moved[: len(self)] = self._buffer[self.start - self._offset : self.end - self._offset]
        self._buffer, self._offset = moved, self.start

    def slice(self, start: int, end: int) -> Audio:
        """Read-only samples ``[start, end)``.

        Raises:
            IndexError: some of them are not held.
        """
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"samples {start}..{end} are not held; {self.start}..{self.end} are")
        view = self._buffer[start - self._offset : end - self._offset]
        view.flags.writeable = False
        return view

    def __len__(self) -> int:
        return self.end - self.start
