"""WhisperLiveKit's `/asr`, of a server started with `--pcm-input`. Read off the package `whisperlivekit` 0.2.26."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.talk import Message, Talk, broken, decoded, whole

_REFUSALS = range(4400, 4500)
"""Close codes of a wrong token and of bad parameters."""


class _Line(msgspec.Struct):
    text: str | None = None
    start: str = ""
    """H:MM:SS.cc"""


class _Event(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str = ""
    lines: list[_Line] | None = None
    buffer_transcription: str = ""
    error: str = ""
    use_pcm: bool = msgspec.field(default=True, name="useAudioWorklet")


_DECODER = msgspec.json.Decoder(_Event)


class WhisperLiveKitTalk(Talk):
    """Lines are what it has validated, its buffer what may change."""

    can_finalize = False

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[_Line] = []
        """All there were: in long sessions the server leaves the oldest out."""

    def finish(self) -> Sequence[Message]:
        return (b"",)

    def receive(self, message: Message) -> Reading | None:
        event = decoded(_DECODER, message)
        if event.error:
            raise SessionFailed(event.error) if self.opened else SessionRefused(event.error)
        if event.type == "config":
            if not event.use_pcm:
                raise SessionRefused("it wants encoded audio; start it with --pcm-input")
            self.opened = True
        elif event.type == "ready_to_stop":
            self.ended = True
        elif event.lines is not None:
            self._keep([line for line in event.lines if line.text])
            return whole((line.text or "" for line in self._lines), (event.buffer_transcription,))
        return None

    def _keep(self, lines: list[_Line]) -> None:
        if not lines:
            return
        first = lines[0].start
        kept = next((number for number, line in enumerate(self._lines) if line.start == first), None)
        if kept is None:
            # A line that began before the oldest one received, and is sent no more, has been left out for its age.
            kept = sum(_seconds(line.start) < _seconds(first) for line in self._lines)
        self._lines[kept:] = lines

    def closed(self, code: int, reason: str) -> None:
        if code in _REFUSALS:
            raise SessionRefused(f"{reason} (close code {code})")
        if not self.ended:
            raise broken(code, reason)


def _seconds(time: str) -> float:
    hours, minutes, seconds = ("0:0:" + time).split(":")[-3:]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds or 0)
