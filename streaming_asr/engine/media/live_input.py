"""The child's end of the pipe over which a file arrives while it is recorded. There are marks in it: see `messages`."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from streaming_asr.engine.media import messages


class LiveInput:
    """A file-like object that waits for the next bytes, and never seeks.

    Args:
        descriptor: of the pipe.
        before_wait: is called before each wait.
        on_mark: is called where a mark is; returns whether the file shall end there.
    """

    def __init__(self, descriptor: int, before_wait: Callable[[], None], on_mark: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._before_wait = before_wait
        self._on_mark = on_mark
        self._data = b""
        """Received, and not read."""
        self.ended = False
        self.received_bytes = 0

    def seekable(self) -> bool:
        return False

    def peek(self, size: int) -> bytes:
        """This many of the next bytes or more, which are not read; fewer at the end."""
        while len(self._data) < size and not self.ended:
            self._data += self._receive()
        return self._data

    def read(self, size: int = -1) -> bytes:
        """Up to this many bytes, as soon as there are any; nothing at the end."""
        while not self._data and not self.ended:
            self._data = self._receive()
        data, self._data = (self._data, b"") if size < 0 else (self._data[:size], self._data[size:])
        return data

    def _receive(self) -> bytes:
        """The next bytes, or nothing after a mark and at the end."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            self._before_wait()
        header = self._exactly(messages.HEADER.size)
        kind, size = messages.HEADER.unpack(header) if header else (messages.END, 0)
        if kind == messages.DATA:
            self.received_bytes += size
            return self._exactly(size)
        self.ended = kind != messages.MARK or self._on_mark()
        return b""

    def _exactly(self, size: int) -> bytes:
        """This many bytes; nothing if the pipe ends before."""
        data = b""
        while len(data) < size:
            more = os.read(self._descriptor, size - len(data))
            if not more:
                return b""
            data += more
        return data
