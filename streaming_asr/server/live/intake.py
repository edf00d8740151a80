"""What a client's audio is, and where it goes: raw audio to the session, a file to a decoder. Sans-IO."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.containers import is_file, may_be_file
from streaming_asr.core.options import Encoding


@dataclass(frozen=True, slots=True)
class Decoded:
    """Audio of a file for the session."""

    frames: NDArray[np.float32]
    """16 kHz, shape ``[n, tracks]``."""


class Content(enum.Enum):
    """What the audio is."""

    UNKNOWN = enum.auto()
    """Too little has been received to know."""
    RAW = enum.auto()
    FILE = enum.auto()


class Intake:
    """The audio of one session, up to a change of its format.

    Args:
        encoding: of the session. With `Encoding.AUTO`, the first bytes decide.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.content = Content.UNKNOWN if encoding is Encoding.AUTO else Content.RAW
        self.decoded: deque[Decoded] = deque()
        """Waits for the session; bounded, as the decoder is not read meanwhile."""
        self.marked = True
        """Whether all audio of the file that was received has been decoded."""
        self.waiting = False
        """Whether the decoder has been asked for that, and has not answered."""
        self.full = False
        """Whether the decoder can't take more."""
        self._head = b""

    @property
    def blocked(self) -> bool:
        """Whether what comes next must wait for the decoder."""
        return self.waiting or self.full

    def recognize(self, data: bytes | memoryview) -> bytes | memoryview:
        """Look at the next bytes while the content is unknown; returns what can go on: all, once it is known."""
        head = self._head + bytes(data)
        if is_file(head):
            self.content = Content.FILE
        elif not may_be_file(head):
            self.content = Content.RAW
        else:
            self._head = head
            return b""
        self._head = b""
        return head

    def settle(self) -> bytes:
        """Take what came while the content is unknown for raw audio, and return it. Without any, it stays unknown."""
        head, self._head = self._head, b""
        if head:
            self.content = Content.RAW
        return head
