"""The recent audio of one channel: appended at one end, forgotten at the other."""

from __future__ import annotations

import numpy as np

from streaming_asr.recognizers.base import Audio

_SPARE = 16_000
"""Samples of room that growing adds at least."""


class AudioTape:
    """Samples ``[start, end)`` of a stream, at 16 kHz; positions count from the stream's first sample.

    Slices are views that stay valid: written samples are never overwritten, and growing moves to a new buffer.
    """

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self._buffer: Audio = np.zeros(_SPARE, np.float32)
        self._offset = 0
        """Stream position of the buffer's first sample."""

    def append(self, samples: Audio) -> None:
        used = self.end - self._offset
        if used + len(samples) > len(self._buffer):
            held = self._buffer[self.start - self._offset : used]
            grown = np.zeros(max(2 * (len(held) + len(samples)), _SPARE), np.float32)
            grown[: len(held)] = held
            self._buffer, self._offset, used = grown, self.start, len(held)
        self._buffer[used : used + len(samples)] = samples
        self.end += len(samples)

    def forget_before(self, position: int) -> None:
        """Samples before `position` will not be asked for again."""
        self.start = min(max(self.start, position), self.end)

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
