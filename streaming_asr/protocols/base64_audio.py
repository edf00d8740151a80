"""Audio as base64 text, in every form that clients send it in."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\n\r\v\f"
_MOST_LEFT = 64
"""Characters that wait for the next piece: up to three, and padding, of which any amount is taken."""
_PART_OF_PERCENT = re.compile(rb"%[0-9a-fA-F]?\Z")


def decode_base64(text: str) -> bytes:
    """The bytes of base64 text, or of a data URL with base64.

    Line breaks and spaces are allowed anywhere, both alphabets of RFC 4648 are, and the padding may be missing.

    Raises:
        ValueError: it is not base64. The message is for the client.
    """
    return b"".join(decode_base64_pieces((text,)))


def decode_data_url(url: str) -> bytes:
    """The bytes of a data URL, RFC 2397, with base64 or percent-encoded.

    Raises:
        ValueError: it is not a data URL, or its base64 is wrong. The message is for the client.
    """
    return b"".join(decode_data_url_pieces((url,)))


def decode_base64_pieces(pieces: Iterable[str]) -> Iterator[bytes]:
    """As `decode_base64`, of text that comes in pieces, of which the first has the whole head of a data URL."""
    first, rest = _first(pieces)
    return _decoded(itertools.chain((_data_of(first) if first[:5].lower() == "data:" else first,), rest))


def decode_data_url_pieces(pieces: Iterable[str]) -> Iterator[bytes]:
    """As `decode_data_url`, of a URL that comes in pieces, of which the first has its whole head."""
    first, rest = _first(pieces)
    head, comma, body = first.partition(",")
    if comma and not _is_base64(head):
        return _unquoted(piece.encode("utf-8", "surrogatepass") for piece in itertools.chain((body,), rest))
    return decode_base64_pieces(itertools.chain((first,), rest))


def _first(pieces: Iterable[str]) -> tuple[str, Iterator[str]]:
    rest = iter(pieces)
    return next(rest, ""), rest


def _decoded(pieces: Iterable[str]) -> Iterator[bytes]:
    left = b""
    for piece in _unquoted(map(_ascii, pieces)):
        left += piece.translate(_FROM_URL_SAFE, delete=_WHITESPACE)
        # Padding is valid at the very end only, so what it may belong to has to wait.
        whole = left.rstrip(b"=")
        whole = whole[: len(whole) - len(whole) % 4]
        yield _bytes_of(whole)
        left = left[len(whole) :][:_MOST_LEFT]
    if left:
        yield _bytes_of(left.rstrip(b"="))


def _unquoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decode percent-encoding, which a piece may cut."""
    left = b""
    for piece in pieces:
        piece = left + piece
        if b"%" not in piece:
            left = b""
            yield piece
            continue
        cut = _PART_OF_PERCENT.search(piece)
        end = cut.start() if cut else len(piece)
        left = piece[end:]
        yield unquote_to_bytes(piece[:end])
    if left:
        yield left


def _ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise ValueError(f"The audio is not base64: it has {text[error.start]!r}") from None


def _bytes_of(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"The audio is not base64: {str(error).lower()}") from None


def _data_of(url: str) -> str:
    head, comma, body = url.partition(",")
    if not comma or not _is_base64(head):
        raise ValueError("The audio is not base64: a data URL must be data:TYPE;base64,DATA")
    return body


def _is_base64(head: str) -> bool:
    return head.rstrip().lower().endswith(";base64")
