"""Audio as base64 text, in every form that clients send it in."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\n\r\v\f"


def decode_base64(text: str) -> bytes:
    """The bytes of base64 text, or of a data URL with base64.

    Line breaks and spaces are allowed anywhere, both alphabets of RFC 4648 are, and the padding may be missing.

    Raises:
        ValueError: it is not base64. The message is for the client.
    """
    if text[:5].lower() == "data:":
        text = _data_of(text)
    try:
        encoded = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise ValueError(f"The audio is not base64: it has {text[error.start]!r}") from None
    if b"%" in encoded:
        encoded = unquote_to_bytes(encoded)
    encoded = encoded.translate(_FROM_URL_SAFE, delete=_WHITESPACE).rstrip(b"=")
    try:
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"The audio is not base64: {str(error).lower()}") from None


def decode_data_url(url: str) -> bytes:
    """The bytes of a data URL, RFC 2397, with base64 or percent-encoded.

    Raises:
        ValueError: it is not a data URL, or its base64 is wrong. The message is for the client.
    """
    head, comma, body = url.partition(",")
    if comma and not _is_base64(head):
        return unquote_to_bytes(body)
    return decode_base64(url)


def _data_of(url: str) -> str:
    head, comma, body = url.partition(",")
    if not comma or not _is_base64(head):
        raise ValueError("The audio is not base64: a data URL must be data:TYPE;base64,DATA")
    return body


def _is_base64(head: str) -> bool:
    return head.rstrip().lower().endswith(";base64")
