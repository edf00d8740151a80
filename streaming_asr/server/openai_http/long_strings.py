"""JSON whose long strings are cut out while it arrives.

A chat request has its recording in one string. To parse tens of megabytes at once would stop the event loop, and they
would take memory for each client. So only the beginning of a long string stays in the JSON; the rest of it goes to a
file, from which it is read in pieces.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO

import msgspec

KEPT_BYTES = 32 * 1024
"""Of each string, what stays in the JSON."""
MAX_JSON_BYTES = 2 * 2**20
"""Of the JSON without what is cut out."""
PIECE_BYTES = 64 * 1024
"""What is read from the file at once."""
FLUSH_BYTES = 2**20
"""What waits to be written to the file."""

_INSIDE = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
"""The inside of a string, up to its end, or to a backslash whose second character has not arrived."""
_CHARACTERS = re.compile(
    rb"(?:[^\"\\\x80-\xff]+|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}"
    rb"|[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3})*",
    re.DOTALL,
)
"""Whole characters of a string, some of them escaped, RFC 8259 section 7."""
_LONGEST = 12
"""Bytes of one character: two escapes."""
_MARK = "\0"


class TooMuchJson(ValueError):
    """There is too much besides long strings."""


class LongStrings:
    """Takes JSON in pieces of bytes. A context, which ends the file."""

    def __init__(self) -> None:
        self.json = bytearray()
        """What is left of it."""
        self._file: IO[bytes] | None = None
        self._size = 0
        """Bytes that were cut out."""
        self._unwritten = bytearray()
        self._cuts: list[tuple[int, int]] = []
        """Where in the file each string goes on, and where it ends."""
        self._inside = False
        self._begin = 0
        """Where in `json` the string begins."""
        self._cut_at: int | None = None
        """Where in the file it goes on, if it is long."""
        self._left = b""
        """A backslash, or a character that is not complete."""

    def __enter__(self) -> LongStrings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def full(self) -> bool:
        """Whether `write` should be called."""
        return len(self._unwritten) >= FLUSH_BYTES

    def write(self) -> None:
        """Write what has been cut out to the file. Blocks."""
        if self._unwritten:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with this
            self._file.write(self._unwritten)
            self._unwritten.clear()

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ValueError: it is not JSON, or there is too much besides long strings. The message is for the client.
        """
        data = self._left + data
        self._left = b""
        at = 0
        while at < len(data):
            at = self._within(data, at) if self._inside else self._between(data, at)
            if len(self.json) > MAX_JSON_BYTES:
                raise TooMuchJson(f"it has more than {MAX_JSON_BYTES} bytes besides its audio")

    def pieces(self, text: str) -> Iterator[str]:
        """A string of the parsed JSON, whole, in pieces. Call `write` before. Blocks.

        Raises:
            ValueError: what was cut out is not a JSON string.
        """
        kept, mark, number = text.rpartition(_MARK)
        if not mark or not number.isdecimal() or int(number) >= len(self._cuts) or self._file is None:
            yield text
            return
        yield kept
        at, end = self._cuts[int(number)]
        left = b""
        while at < end:
            self._file.seek(at)
            block = self._file.read(min(PIECE_BYTES, end - at))
            at += len(block)
            block = left + block
            whole = len(block) if at == end else _whole(block, len(block))
            yield msgspec.json.decode(b'"' + block[:whole] + b'"', type=str)
            left = block[whole:]

    def _between(self, data: bytes, at: int) -> int:
        """Take what is between strings; returns where the next one begins."""
        quote = data.find(b'"', at)
        end = len(data) if quote < 0 else quote + 1
        self.json += data[at:end]
        if quote >= 0:
            self._inside, self._begin, self._cut_at = True, len(self.json), None
        return end

    def _within(self, data: bytes, at: int) -> int:
        """Take the inside of a string; returns where it ends."""
        found = _INSIDE.match(data, at)
        assert found is not None
        end = found.end()
        self._take(data[at:end])
        if end == len(data):
            return end
        if data[end : end + 1] == b"\\":
            self._left = data[end:]
            return len(data)
        if self._cut_at is not None:
            self.json += f"\\u0000{len(self._cuts)}".encode()
            self._cuts.append((self._cut_at, self._size))
        self.json += b'"'
        self._inside = False
        return end + 1

    def _take(self, inside: bytes) -> None:
        if self._cut_at is None:
            self.json += inside
            if len(self.json) - self._begin <= KEPT_BYTES:
                return
            keep = _whole(bytes(memoryview(self.json)[self._begin :]), KEPT_BYTES)
            self._cut_at = self._size
            inside = bytes(memoryview(self.json)[self._begin + keep :])
            del self.json[self._begin + keep :]
        self._unwritten += inside
        self._size += len(inside)


def _whole(inside: bytes, end: int) -> int:
    """Where the inside of a string can be cut, at or before `end`, and not in mid-character.

    Raises:
        ValueError: it is not the inside of a JSON string.
    """
    found = _CHARACTERS.match(inside, 0, end)
    whole = found.end() if found is not None else 0
    if whole <= end - _LONGEST:
        raise ValueError("it has an invalid string")
    return whole
