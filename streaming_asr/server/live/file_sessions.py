"""How many sessions may send files, each of which has a child process to decode it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streaming_asr.engine.media.decoders import Decoders
from streaming_asr.server.metrics import Metrics


class TooManyFiles(Exception):
    """As many sessions as are allowed send files. The message is for the user."""


class FileSessions:
    """What the sessions that send files share.

    Args:
        decoders: starts the children.
        most: sessions at once.
        max_s: length of the longest file, seconds.
    """

    def __init__(self, decoders: Decoders, metrics: Metrics, most: int, max_s: float) -> None:
        self.decoders = decoders
        self.max_s = max_s
        self._metrics = metrics
        self._most = most
        self.count = 0

    def decoder_lost(self) -> None:
        """A child crashed, or was ended for what it took."""
        self._metrics.decoders_lost.labels("session").inc()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for a session.

        Raises:
            TooManyFiles: all are taken.
        """
        if self.count >= self._most:
            raise TooManyFiles(f"{self._most} sessions send files; send raw audio, or try again later")
        self.count += 1
        self._metrics.decoders.set(self.count)
        try:
            yield
        finally:
            self.count -= 1
            self._metrics.decoders.set(self.count)
