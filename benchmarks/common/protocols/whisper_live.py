"""WhisperLive's protocol. Read off the package `whisper-live` 0.10.0."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

import msgspec
import numpy as np

from benchmarks.common.adapters import Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.talk import Message, Talk, broken, decoded, whole

MODEL = "tiny.en"
QUIET_S = 5.0
"""It never says that it is done, drops what it has not sent when it receives the end, and sends the same text over
and over meanwhile. Its own client waits until the text has not changed for 15 s."""


class _Segment(msgspec.Struct):
    text: str
    start: str | float = 0.0
    completed: bool = False


class _Event(msgspec.Struct):
    """Any message, as far as it is needed here."""

    segments: list[_Segment] | None = None
    status: str = ""
    message: str | float = ""


_DECODER = msgspec.json.Decoder(_Event, strict=False)


class WhisperLiveTalk(Talk):
    """One session of WhisperLive.

    Args:
        model: a name that faster-whisper knows; a server that was started with a model of its own ignores it.
        language: ISO 639-1; empty lets the server detect it.
    """

    can_finalize = False
    quiet_s = QUIET_S

    def __init__(self, model: str, language: str) -> None:
        super().__init__()
        self._start = {
            "uid": str(uuid.uuid4()),
            "language": language or None,
            "task": "transcribe",
            "model": model,
            "use_vad": True,
        }
        self._completed: dict[float, str] = {}
        """By start: each message holds the last ten segments only."""
        self._finishing = False

    def hello(self) -> Sequence[Message]:
        return (json.dumps(self._start),)

    def audio(self, pcm: bytes) -> Message:
        return (np.frombuffer(pcm, "<i2").astype("<f4") / 32768).tobytes()

    def finish(self) -> Sequence[Message]:
        self._finishing = True
        return (b"END_OF_AUDIO",)

    def receive(self, message: Message) -> Reading | None:
        event = decoded(_DECODER, message)
        if event.message == "SERVER_READY":
            self.opened = True
        elif event.status == "WAIT":
            raise SessionRefused(f"full: it says to wait for {event.message} minutes")
        elif event.status == "ERROR":
            raise SessionFailed(str(event.message)) if self.opened else SessionRefused(str(event.message))
        elif event.segments is not None:
            self._completed |= {float(segment.start): segment.text for segment in event.segments if segment.completed}
            partials = [segment.text for segment in event.segments if not segment.completed]
            return whole((self._completed[start] for start in sorted(self._completed)), partials)
        return None

    def closed(self, code: int, reason: str) -> None:
        if not self._finishing:
            raise broken(code, reason)
