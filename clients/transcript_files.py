"""Transcripts on disk: txt, json, srt, vtt, by the file's extension. The file is complete after each final."""

from __future__ import annotations

import html
import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType

import msgspec

from clients.cues import Cue, cues_of
from clients.events import Final


class TranscriptError(Exception):
    """A transcript can't be written there. The message is for the user."""


class TranscriptFile(ABC):
    """An open transcript. Use as a context manager, or call `close`.

    Args:
        path: created with its folders, or emptied.
        several_channels: whether to name the channel of each utterance that has no speaker.

    Raises:
        TranscriptError: it can't be created or written.
    """

    head = ""
    tail = ""
    """Ends the file; the next utterance overwrites it."""

    def __init__(self, path: Path, *, several_channels: bool = False) -> None:
        self.path = path
        self._several_channels = several_channels
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb")
        except OSError as error:
            raise TranscriptError(f"can't write {path}: {error.strerror}") from None
        self._append(self.head)

    @abstractmethod
    def format(self, final: Final) -> str:
        """What is written for one utterance."""

    def add(self, final: Final) -> None:
        """Write an utterance, unless it is empty.

        Raises:
            TranscriptError: the disk is full, or gone.
        """
        if final.text.strip():
            self._append(self.format(final))

    def close(self) -> None:
        self._file.close()

    def _speaker(self, channel: int, speaker: int | None) -> str:
        if speaker is not None:
            return f"Speaker {speaker + 1}: "
        return f"[channel {channel + 1}] " if self._several_channels else ""

    def _append(self, text: str) -> None:
        tail = self.tail.encode()
        try:
            self._file.write(text.encode())
            self._file.write(tail)
            self._file.flush()
            self._file.seek(-len(tail), os.SEEK_CUR)
        except OSError as error:
            raise TranscriptError(f"can't write {self.path}: {error.strerror}") from None

    def __enter__(self) -> TranscriptFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TextFile(TranscriptFile):
    """One utterance a line."""

    def format(self, final: Final) -> str:
        return f"{self._speaker(final.channel, final.speaker)}{final.text.strip()}\n"


class JsonFile(TranscriptFile):
    """An object whose `utterances` are the finals, as in the protocol."""

    head = '{"utterances": ['
    tail = "\n]}\n"

    _separator = "\n"

    def format(self, final: Final) -> str:
        fields = {
            "utterance": final.utterance,
            "channel": final.channel,
            "start_ms": final.start_ms,
            "end_ms": final.time_ms,
            "text": final.text,
            "language": final.language,
            "confidence": final.confidence,
            "words": final.words,
            "speaker": final.speaker,
        }
        separator, self._separator = self._separator, ",\n"
        return separator + msgspec.json.encode(fields).decode()


class SrtFile(TranscriptFile):
    """SubRip subtitles."""

    _number = 0

    def format(self, final: Final) -> str:
        return "".join(self._cue(cue) for cue in cues_of(final))

    def _cue(self, cue: Cue) -> str:
        self._number += 1
        text = self._speaker(cue.channel, cue.speaker) + cue.text.replace("-->", "→")
        return f"{self._number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{text}\n\n"


class VttFile(TranscriptFile):
    """WebVTT subtitles."""

    head = "WEBVTT\n\n"

    def format(self, final: Final) -> str:
        return "".join(self._cue(cue) for cue in cues_of(final))

    def _cue(self, cue: Cue) -> str:
        voice = f"<v Channel {cue.channel + 1}>" if self._several_channels else ""
        if cue.speaker is not None:
            voice = f"<v Speaker {cue.speaker + 1}>"
        text = voice + html.escape(cue.text, quote=False)
        return f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{text}\n\n"


FORMATS: dict[str, type[TranscriptFile]] = {".txt": TextFile, ".json": JsonFile, ".srt": SrtFile, ".vtt": VttFile}


def check_format(path: Path) -> None:
    """Check that the extension names a format.

    Raises:
        TranscriptError: it does not.
    """
    if path.suffix.lower() not in FORMATS:
        raise TranscriptError(f"{path}: end the name in one of {', '.join(FORMATS)} to choose the format")


def create_transcript(path: Path, *, several_channels: bool = False) -> TranscriptFile:
    """A new, empty transcript in the format of the extension.

    Raises:
        TranscriptError: the extension is none of those known, or the file can't be created.
    """
    check_format(path)
    return FORMATS[path.suffix.lower()](path, several_channels=several_channels)


def _clock(ms: int, separator: str) -> str:
    minutes, ms = divmod(max(0, ms), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}{separator}{ms % 1000:03}"
