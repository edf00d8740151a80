"""Which of the recent frames of one channel are voiced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class VoicedFrames:
    """Decisions of a voice detector; positions are samples of the stream, of which a frame has a fixed number.

    Args:
        frame_samples: length of each frame.
    """

    def __init__(self, frame_samples: int) -> None:
        self._frame = frame_samples
        self._first = 0
        """Number of the first frame kept."""
        self._voiced = bytearray()
        """A byte each."""

    def append(self, voiced: NDArray[np.bool_], position: int) -> None:
        """Add the decisions on the frames that begin at `position`; those before it that are not there are unvoiced."""
        missing = position // self._frame - self._first - len(self._voiced)
        if not self._voiced:
            self._first += missing
        else:
            self._voiced.extend(bytes(missing))
        self._voiced.extend(voiced.astype(np.uint8).tobytes())

    def forget_before(self, position: int) -> None:
        """Drop the frames before `position`."""
        count = min(max(0, position // self._frame - self._first), len(self._voiced))
        del self._voiced[:count]
        self._first += count

    def spans(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where samples ``[start, end)`` are voiced: spans from, and up to but not including, counted from `start`."""
        first = max(0, start // self._frame - self._first)
        frames = np.frombuffer(bytes(self._voiced[first : -(-end // self._frame) - self._first]), np.uint8)
        edges = np.flatnonzero(np.diff(frames, prepend=0, append=0))
        offset = (self._first + first) * self._frame - start
        samples = np.clip(edges * self._frame + offset, 0, end - start).tolist()
        return list(zip(samples[::2], samples[1::2], strict=True))
