"""A file that arrives piece by piece -> its parts: a recorder that is restarted sends one file after the other.

FFmpeg reads on where WebM, MP3, AAC or MPEG-TS begin anew. Of the formats here it would read the first part alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from streaming_asr.engine.media.ogg_links import MAGIC, OggLinks
from streaming_asr.engine.media.parts import Readable

_CHUNK = 64 * 1024
_FLAC = re.compile(rb"fLaC\x00\x00\x00\x22")
"""The marker of a FLAC file, and the header of its first block, which is always of this size."""
_WAV = re.compile(rb"R(?:IFF|F64).{4}WAVE", re.DOTALL)
_WAV_START = 12
_LONGEST_WAV_HEADER = 16_384
_UNKNOWN_SIZES = 0x7FFF_0000
"""Sizes from here on mean that the writer does not know it."""
_PCM, _EXTENSIBLE = 1, 0xFFFE
_PCM_DEMUXERS = {8: "u8", 16: "s16le", 24: "s24le", 32: "s32le"}
"""Bits a sample -> FFmpeg's name of the format."""
_NOT_AUDIO = (b"LIST", b"id3 ", b"ID3 ", b"cue ", b"fact", b"bext", b"JUNK", b"PEAK", b"iXML", b"_PMX")
"""Chunks that may follow the data."""
_KNOWN = (
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"\x1f\x43\xb6\x75", "matroska"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"RF64", "wav"),
    (b"ID3", "mp3"),
)
"""How files begin -> FFmpeg's name of their format."""


@dataclass(frozen=True)
class Pcm:
    """A format of raw samples."""

    demuxer: str
    """FFmpeg's name."""
    rate: int
    """Hz."""
    channels: int


class Source(Protocol):
    """What a file that arrives is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to this many bytes, as soon as there are any; nothing at the end."""

    def peek(self, size: int, /) -> bytes:
        """This many of the next bytes or more, which are not read; fewer at the end."""


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name of the format of a file that begins like this. None: FFmpeg has to find out, for which it waits
    for more bytes than the first audio takes.
    """
    if head[:4] == b"RIFF":
        return "wav" if head[8:12] == b"WAVE" else None
    if head[4:8] in (b"ftyp", b"styp", b"moov", b"moof"):
        return "mov"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return "mp3"
    return next((name for magic, name in _KNOWN if head.startswith(magic)), None)


def live_parts(source: Source) -> Iterator[Readable]:
    """Yield the parts; each has to be read before the next is asked for."""
    head = source.peek(_WAV_START)
    joined: OggLinks | _Parts
    if head.startswith(MAGIC):
        joined = OggLinks(source.read)
    elif head.startswith(b"fLaC"):
        joined = _MarkedParts(source.read, _FLAC)
    elif _WAV.match(head):
        joined = WavParts(source.read, _WAV)
    elif demuxer_of(head) == "mov":
        joined = _Mp4Parts(source.read)
    else:
        joined = _Parts(source.read)
    yield joined
    while joined.next_link():
        yield joined


class _Parts:
    """A file-like object that ends where a part ends. This class knows one part alone.

    Args:
        read: reads up to the given number of bytes; nothing at the end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read_source = read
        self._raw = bytearray()
        """Received, but not looked at."""
        self._ready = bytearray()
        """Of this part."""
        self._at_next = False

    def read(self, size: int) -> bytes:
        """Up to this many bytes of the part; nothing at its end."""
        while not self._ready and not self._at_next and self._advance():
            pass
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def next_link(self) -> bool:
        """Go on to the next part; False if there is none. What was not read of this one is dropped."""
        while not self._at_next:
            self._ready.clear()
            if not self._advance():
                return False
        self._ready.clear()
        self._at_next = False
        return True

    def _advance(self) -> bool:
        """Move bytes to those that are ready, or find that the next part begins; False if nothing is left."""
        return (bool(self._raw) or self._receive()) and self._take(len(self._raw))

    def _receive(self) -> bool:
        data = self._read_source(_CHUNK)
        self._raw += data
        return bool(data)

    def _filled(self, size: int) -> bool:
        while len(self._raw) < size:
            if not self._receive():
                return False
        return True

    def _take(self, size: int) -> bool:
        self._ready += self._raw[:size]
        del self._raw[:size]
        return True


class _MarkedParts(_Parts):
    """Parts that begin with a marker.

    Args:
        marker: matches bytes of one length.
    """

    def __init__(self, read: Callable[[int], bytes], marker: re.Pattern[bytes]) -> None:
        super().__init__(read)
        self._marker = marker
        self._begins = True
        """Whether what follows is the marker of this part."""

    def _advance(self) -> bool:
        if self._begins:
            return self._begin()
        found = self._marker.search(self._raw)
        if found is not None and not found.start():
            self._at_next = self._begins = True
            return True
        known = len(self._raw) - self._unclear() if found is None else found.start()
        if known:
            return self._take(known)
        if self._receive():
            return True
        return bool(self._raw) and self._take(len(self._raw))

    def _begin(self) -> bool:
        if not self._raw and not self._receive():
            return False
        self._begins = False
        return self._take(1)

    def _unclear(self) -> int:
        """Bytes at the end that may be the beginning of a marker."""
        tail = bytes(self._raw[-_WAV_START + 1 :])
        return next((len(tail) - at for at in range(len(tail)) if self._may_begin(tail[at:])), 0)

    def _may_begin(self, tail: bytes) -> bool:
        return b"fLaC\x00\x00\x00\x22".startswith(tail)


class WavParts(_MarkedParts):
    """WAV files. Of PCM only the samples are read: FFmpeg would look for a disguised AC-3 in the first 64 kB of it."""

    pcm: Pcm | None = None
    """Format of the part, if it is PCM; known after `read_header`."""
    _data_left: int | None = None
    """Bytes of PCM that the header states and that have not been received; None if it states none."""

    def read_header(self) -> None:
        """Read the header of the part, unless it has been read."""
        if self._begins:
            self._begin()

    def _begin(self) -> bool:
        found: tuple[int, Pcm | None, int] | None = None
        while found is None and len(self._raw) < _LONGEST_WAV_HEADER and self._receive():
            found = _wav_header(bytes(self._raw))
        if not self._raw:
            return False
        self._begins = False
        end, self.pcm, size = found or (1, None, 0)
        if self.pcm is None:
            return self._take(1)
        self._data_left = size if 0 < size < _UNKNOWN_SIZES else None
        del self._raw[:end]
        return True

    def _advance(self) -> bool:
        if self._begins or self.pcm is None or self._data_left is None:
            return super()._advance()
        if self._data_left:
            if not self._raw and not self._receive():
                return False
            size = min(self._data_left, len(self._raw))
            self._data_left -= size
            return self._take(size)
        # A chunk that is not audio, or audio behind a size that is not right.
        if self._filled(8) and bytes(self._raw[:4]) in _NOT_AUDIO:
            size = int.from_bytes(self._raw[4:8], "little")
            if self._filled(8 + size + size % 2):
                del self._raw[: 8 + size + size % 2]
                return True
        self._data_left = None
        return super()._advance()

    def _may_begin(self, tail: bytes) -> bool:
        return (b"RIFF".startswith(tail[:4]) or b"RF64".startswith(tail[:4])) and b"WAVE".startswith(tail[8:])


def _wav_header(data: bytes) -> tuple[int, Pcm | None, int] | None:
    """Where the data of a WAV begins, its format if it is PCM, and the size that it states; None: more is needed."""
    at, pcm = _WAV_START, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            return at, pcm, size
        if name == b"fmt ":
            if len(data) < at + size:
                return None
            pcm = _pcm_of(data[at : at + size])
        at += size + size % 2
    return None


def _pcm_of(content: bytes) -> Pcm | None:
    """The format that a chunk ``fmt `` names, if it is PCM."""
    if len(content) < 16:
        return None
    tag, channels, rate, bits = struct.unpack_from("<HHI6xH", content)
    if tag == _EXTENSIBLE and len(content) >= 26:
        tag = int.from_bytes(content[24:26], "little")
    demuxer = _PCM_DEMUXERS.get(bits) if tag == _PCM else None
    return Pcm(demuxer, rate, channels) if demuxer and channels else None


class _Mp4Parts(_Parts):
    """MP4 files, box by box: one that begins after audio is another file."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        super().__init__(read)
        self._box_left: int | None = 0
        """Bytes of the present box that have not been received; None: it has all that follows."""
        self._had_audio = False

    def _advance(self) -> bool:
        if self._box_left == 0 and self._filled(16):
            name = bytes(self._raw[4:8])
            if name == b"ftyp" and self._had_audio:
                self._at_next, self._had_audio = True, False
                return True
            size = int.from_bytes(self._raw[:4], "big")
            size = int.from_bytes(self._raw[8:16], "big") if size == 1 else size
            self._had_audio = self._had_audio or name == b"mdat"
            self._box_left = size if size >= 8 else None
        if not self._raw and not self._receive():
            return False
        size = len(self._raw) if self._box_left is None else min(len(self._raw), self._box_left or len(self._raw))
        if self._box_left is not None:
            self._box_left = max(0, self._box_left - size)
        return self._take(size)
