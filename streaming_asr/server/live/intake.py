"""What a client's audio is, and where it goes: raw audio to the session, a file to a decoder. Sans-IO."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.containers import is_file, may_be_file
from streaming_asr.core.options import Encoding
from streaming_asr.server.live.actions import DecoderAction, EndDecoder, FeedDecoder, MarkDecoder, StartDecoder


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
        self.decoding = False
        """Whether there is a decoder."""
        self.full = False
        """Whether the decoder can't take more."""
        self._complete = True
        """Whether all audio of the file that was received has been decoded."""
        self._waiting = False
        """Whether the decoder has been asked for that, and has not answered."""
        self._head = b""

    @property
    def size(self) -> int:
        """Bytes of decoded audio that wait for the session."""
        return sum(audio.frames.nbytes for audio in self.decoded)

    @property
    def blocked(self) -> bool:
        """Whether what comes next must wait for the decoder."""
        return self._waiting or self.full

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

    # The decoder of a file

    def decode(self, data: bytes | memoryview, channels: int) -> list[DecoderAction]:
        """What to have done with the next bytes of a file.

        Args:
            channels: of the decoded audio.
        """
        feed = FeedDecoder(data)
        self._complete = False
        if self.decoding:
            return [feed]
        self.decoding = True
        return [StartDecoder(channels), feed]

    def decode_all(self, *, ends: bool) -> MarkDecoder | EndDecoder | None:
        """What to ask of the decoder so that all audio of the bytes so far gets decoded; then `blocked` until it has
        been. None: it has been already.

        Args:
            ends: whether the file is complete.
        """
        if not self.decoding or (self._complete and not ends):
            return None
        self._waiting = True
        return EndDecoder() if ends else MarkDecoder()

    def marked(self) -> None:
        """The decoder has reported all audio of the bytes before the last mark."""
        self._waiting, self._complete = False, True

    def ended(self) -> None:
        """The decoder has reported all audio of the file. What comes next may be another file, or raw audio."""
        self.marked()
        self.decoding = self.full = False
        self.content = Content.UNKNOWN
