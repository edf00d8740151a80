"""A recording that was joined from several, as by `cat` -> its parts, each as a file of its own.

FFmpeg reads on where MP3, AAC, MPEG-TS or WebM were joined. Of the formats here, it reads the first part alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO, Literal, Protocol

from streaming_asr.engine.media.ogg_links import MAGIC, OggLinks

_HEAD_BYTES = 20
"""As long as the longest marker."""
_FLAC = re.compile(rb"fLaC\x00\x00\x00\x22")
"""The marker of a FLAC file, and the header of its first block, which is always of this size."""
_FLV = re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00\x00\x00\x00")
"""The header of an FLV file, and the size of the tag before the first one."""
_CAF = re.compile(rb"caff\x00\x01\x00.desc\x00\x00\x00\x00\x00\x00\x00\x20", re.DOTALL)
"""The header of a CAF file, and that of its first chunk, which is always of this size."""
_CHUNK = 2**20


class Readable(Protocol):
    """What a recording is read from. Formats that keep their index at the end also need `seek` and `tell`."""

    def read(self, size: int, /) -> bytes:
        """Up to this many bytes; nothing at the end."""


def parts_of(file: IO[bytes]) -> Iterator[Readable]:
    """Yield the parts; each has to be read before the next is asked for.

    Args:
        file: at its beginning. If it can't seek, it needs `peek`, and only Ogg files are split into parts.
    """
    if not file.seekable():
        if file.peek(len(MAGIC))[: len(MAGIC)] == MAGIC:  # type: ignore[attr-defined]
            yield from _ogg_links(file)
        else:
            yield file
        return
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if head.startswith(MAGIC):
        yield from _ogg_links(file)
        return
    begins = [0]
    overruns = False
    marker = next((marker for marker in (_FLAC, _FLV, _CAF) if marker.match(head)), None)
    if head[:4] == b"RIFF":
        begins += _chunked(file, b"RIFF", (b"WAVE",), "little")
    elif head[:4] == b"FORM":
        begins += _chunked(file, b"FORM", (b"AIFF", b"AIFC"), "big")
    elif marker is not None:
        begins += _marked(file, marker)
    elif head[4:8] == b"ftyp":
        further, overruns = _mp4s(file)
        begins += further
    size = file.seek(0, os.SEEK_END)
    for begin, end in zip(begins, [*begins[1:], size], strict=True):
        yield _Section(file, begin, end, overruns=overruns and end == size)


def _ogg_links(file: Readable) -> Iterator[Readable]:
    links = OggLinks(file.read)
    yield links
    while links.next_link():
        yield links


def _chunked(file: IO[bytes], name: bytes, kinds: tuple[bytes, ...], order: Literal["little", "big"]) -> Iterator[int]:
    """Where further WAV or AIFF files begin: directly after each other. Each is one chunk of this name."""
    at = 0
    while True:
        file.seek(at + 4)
        size = int.from_bytes(file.read(4), order)
        at += 8 + size + size % 2
        file.seek(at)
        head = file.read(_HEAD_BYTES)
        if head[:4] != name or head[8:12] not in kinds:
            return
        yield at


def _mp4s(file: IO[bytes]) -> tuple[list[int], bool]:
    """Where further MP4 files begin, at each `ftyp` but the first, and whether the last box is longer than the file."""
    begins = []
    end = file.seek(0, os.SEEK_END)
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(_HEAD_BYTES)
        if at and head[4:8] == b"ftyp":
            begins.append(at)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size < 8:
            return begins, False
        at += size
    return begins, at > end


def _marked(file: IO[bytes], marker: re.Pattern[bytes]) -> Iterator[int]:
    """Where further files begin whose size nothing states: the marker is searched."""
    file.seek(0)
    at, tail = 0, b""
    while chunk := file.read(_CHUNK):
        data = tail + chunk
        keep = 0
        for found in marker.finditer(data):
            keep = found.end()
            if at + found.start():
                yield at + found.start()
        tail = data[max(keep, len(data) - _HEAD_BYTES) :]
        at += len(data) - len(tail)


class _Section:
    """A part of a file, or all of it. A seek beyond its end is no error, as it may be for the file system: damaged
    recordings state sizes that no file has."""

    def __init__(self, file: IO[bytes], begin: int, end: int, *, overruns: bool) -> None:
        self.overruns = overruns
        """Whether it states to be longer than it is."""
        self._file = file
        self._begin = begin
        self._size = end - begin
        self._at = 0

    def read(self, size: int) -> bytes:
        left = self._size - self._at
        if left <= 0:
            return b""
        self._file.seek(self._begin + self._at)
        data = self._file.read(min(size, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at
