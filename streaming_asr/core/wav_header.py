"""WAV headers inside raw audio: found, compared with the session's format, and taken out.

Clients send them by mistake: a whole file as a stream, or each message as a file of its own. As samples, a header is a
click, and audio of another rate than the session's is unintelligible.

The format is that of RIFF WAVE, and of RF64 (EBU Tech 3306): ``RIFF``, 4 bytes of size, ``WAVE``, then chunks: 4 bytes
of name, 4 of size and the content, padded to an even length. ``fmt `` has the format, and ``data`` ends the header.
"""

from __future__ import annotations

import struct

from streaming_asr.core.options import Encoding

LONGEST_HEADER = 16_384
"""Bytes; what is longer is not a header that a client sends by mistake."""

_MAGIC = (b"RIFF", b"RF64")
_START_BYTES = 12
_FORMAT = struct.Struct("<HHIIHH")
"""Of the content of ``fmt ``: tag, channels, sample rate, bytes a second, bytes a frame, bits a sample."""
_EXTENSIBLE = 0xFFFE
"""Tag of a format whose own tag is 24 bytes into ``fmt ``."""
_ENCODINGS = {(1, 16): Encoding.S16LE, (3, 32): Encoding.F32LE, (6, 8): Encoding.ALAW, (7, 8): Encoding.MULAW}
"""Tag and bits a sample -> encoding."""
_TAG_NAMES = {1: "PCM", 3: "float", 6: "A-law", 7: "\u00b5-law"}


class UnexpectedFormat(ValueError):
    """The audio has a WAV header that does not fit the session. The message is for the client."""


class WavHeaderFilter:
    """Takes WAV headers out of one stream, wherever they are, also where two messages share one.

    Args:
        encoding, sample_rate, channels: of the session, which headers must name.
    """

    def __init__(self, encoding: Encoding, sample_rate: int, channels: int) -> None:
        self._expected = (encoding, sample_rate, channels)
        self.count = 0
        """Headers taken out so far."""
        self._kept = b""
        """The end of the data, which may be the beginning of a header."""

    def split(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """The audio in the next bytes of the stream, cut where a header was taken out: one piece if none was.

        Raises:
            UnexpectedFormat: a header names another format than the session's, or can't be read.
        """
        data = self._kept + bytes(data)
        self._kept = b""
        pieces: list[bytes | memoryview] = []
        start = 0
        while (at := _find(data, start)) >= 0:
            pieces.append(data[start:at])
            end = self._end_of_header(data, at)
            if end is None:
                self._kept = data[at:]
                return pieces
            self.count += 1
            start = end
        end = _may_begin(data, start)
        self._kept = data[end:]
        pieces.append(data[start:end])
        return pieces

    def flush(self) -> bytes:
        """End the stream; returns what was kept and is audio. A header without an end is dropped, and counted."""
        kept, self._kept = self._kept, b""
        if _find(kept, 0) < 0:
            return kept
        self.count += 1
        return b""

    def _end_of_header(self, data: bytes, at: int) -> int | None:
        """Where the audio begins after a header; None if that is in bytes still to come."""
        position, fits = at + _START_BYTES, False
        while position + 8 <= len(data):
            name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
            position += 8
            if name == b"data":
                if not fits:
                    raise UnexpectedFormat("The audio has a WAV header that names no format; send raw audio")
                return position
            if name == b"fmt ":
                content = data[position : position + min(size, 26)]
                if len(content) < min(size, 26):
                    return None
                self._check(content)
                fits = True
            position += size + size % 2
            if position - at > LONGEST_HEADER:
                raise UnexpectedFormat(f"The audio has a WAV header longer than {LONGEST_HEADER} bytes; send raw audio")
        return None

    def _check(self, content: bytes) -> None:
        if len(content) < _FORMAT.size:
            raise UnexpectedFormat("The audio has a WAV header that can't be read; send raw audio")
        tag, channels, rate, _, _, bits = _FORMAT.unpack_from(content)
        if tag == _EXTENSIBLE and len(content) >= 26:
            tag = int.from_bytes(content[24:26], "little")
        if (_ENCODINGS.get((tag, bits)), rate, channels) == self._expected:
            return
        named = describe_format(f"{bits}-bit {_TAG_NAMES.get(tag, f'of format {tag}')}", rate, channels)
        encoding, own_rate, own_channels = self._expected
        own = describe_format(encoding.value, own_rate, own_channels)
        raise UnexpectedFormat(
            f"The audio has a WAV header of {named}, and the session is of {own}; "
            "convert the audio, or open a session of its format"
        )


def describe_format(encoding: str, rate: int, channels: int) -> str:
    """A format in words."""
    return f"{encoding}, {rate} Hz, {channels} channel{'' if channels == 1 else 's'}"


def _find(data: bytes, start: int) -> int:
    """Where the next header begins; -1 if none does."""
    found = data.find(b"WAVE", start + 8)
    while found >= 0:
        if data[found - 8 : found - 4] in _MAGIC:
            return found - 8
        found = data.find(b"WAVE", found + 1)
    return -1


def _may_begin(data: bytes, start: int) -> int:
    """From where on the end of the data may be the beginning of a header; its length if nowhere."""
    at = data.find(b"R", max(start, len(data) - _START_BYTES + 1))
    while at >= 0:
        rest = data[at:]
        if any(magic.startswith(rest[:4]) for magic in _MAGIC) and b"WAVE".startswith(rest[8:]):
            return at
        at = data.find(b"R", at + 1)
    return len(data)
