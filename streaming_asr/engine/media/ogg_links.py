"""Ogg files that were joined ("chained", RFC 3533 section 4) -> one link after the other.

FFmpeg gives up on a link whose tracks differ from those of the first, so each link is opened as a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable

MAGIC = b"OggS"
_HEADER_BYTES = 27
_BEGINS = 0x02
"""Flag of a page that begins a track. All tracks of a link begin before the first page of another kind."""
_CHUNK = 64 * 1024


class OggLinks:
    """A file-like object that ends where a link ends.

    Args:
        read: reads up to the given number of bytes; nothing at the end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read_source = read
        self._ready = bytearray()
        """Whole pages of this link."""
        self._raw = bytearray()
        """Read, but not parsed."""
        self._source_ended = False
        self._tracks_began = False
        self._at_next_link = False

    def read(self, size: int) -> bytes:
        """Up to this many bytes of the link; nothing at its end."""
        while not self._ready and not self._at_next_link and self._take_page():
            pass
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def next_link(self) -> bool:
        """Go on to the next link; False if there is none. What was not read of this one is dropped."""
        while not self._at_next_link:
            self._ready.clear()
            if not self._take_page():
                return False
        self._ready.clear()
        self._at_next_link = self._tracks_began = False
        return True

    def _take_page(self) -> bool:
        """Move a page, or bytes that are not a page, to those that are ready; False if nothing is left."""
        if not self._filled(_HEADER_BYTES):
            return self._take(len(self._raw))
        if not self._raw.startswith(MAGIC):
            found = self._raw.find(MAGIC, 1)
            return self._take(found if found > 0 else max(1, len(self._raw) - len(MAGIC) + 1))
        segments = self._raw[26]
        self._filled(_HEADER_BYTES + segments)
        begins = bool(self._raw[5] & _BEGINS)
        if begins and self._tracks_began:
            self._at_next_link = True
            return True
        self._tracks_began = self._tracks_began or not begins
        size = _HEADER_BYTES + segments + sum(self._raw[_HEADER_BYTES : _HEADER_BYTES + segments])
        self._filled(size)
        return self._take(min(size, len(self._raw)))

    def _take(self, size: int) -> bool:
        self._ready += self._raw[:size]
        del self._raw[:size]
        return size > 0

    def _filled(self, size: int) -> bool:
        while len(self._raw) < size and not self._source_ended:
            data = self._read_source(_CHUNK)
            self._raw += data
            self._source_ended = not data
        return len(self._raw) >= size
