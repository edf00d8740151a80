"""The recent audio of one channel: appended at the end, dropped at the start."""

from __future__ import annotations

import numpy as np

from streaming_asr.core.recognizer import Audio

_MIN_SIZE = 32_000
"""Smallest size of the buffer, samples."""
_SHRINK_FACTOR = 4
"""The buffer is shrunk once it is this many times larger than needed."""


class AudioTape:
    """Samples ``[start, end)`` of a stream, at 16 kHz; positions count from the stream's first sample.

    Slices are views that stay valid: written samples are never overwritten, and growing moves to a new buffer.
    """

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self._buffer: Audio = np.empty(_MIN_SIZE, np.float32)
        self._offset = 0
        """Stream position of the buffer's first sample."""

    def append(self, samples: Audio) -> None:
        """Add samples at the end."""
        used = self.end - self._offset
        if used + len(samples) > len(self._buffer):
            self._move(max(2 * (len(self) + len(samples)), _MIN_SIZE))
            used = len(self)
        self._buffer[used : used + len(samples)] = samples
        self.end += len(samples)

    def forget_before(self, position: int) -> None:
        """Drop the samples before `position`: they are not needed any more."""
        self.start = min(max(self.start, position), self.end)
        # After a long utterance; else each of a thousand quiet sessions would keep a large buffer.
        if len(self._buffer) > _SHRINK_FACTOR * max(len(self), _MIN_SIZE):
            self._move(max(2 * len(self), _MIN_SIZE))

    def _move(self, size: int) -> None:
        """Move the samples kept to a new buffer of `size` samples."""
        moved = np.empty(size, np.float32)
        moved[: len(self)] = self._buffer[self.start - self._offset : self.end - self._offset]
        self._buffer, self._offset = moved, self.start

    def slice(self, start: int, end: int) -> Audio:
        """Read-only samples ``[start, end)``.

        Raises:
            IndexError: some of them are not kept.
        """
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"samples {start}..{end} are not kept; {self.start}..{self.end} are")
        view = self._buffer[start - self._offset : end - self._offset]
        view.flags.writeable = False
        return view

    def __len__(self) -> int:
        return self.end - self.start
