"""What the child writes to its pipe: a byte for the kind, the length of the rest in 4 bytes, the rest."""

from __future__ import annotations

import json
import struct
from typing import Any

HEADER = struct.Struct("<cI")
MAX_BYTES = 2**20
"""Of a message. The child is not trusted to keep to it."""

INFO = b"I"
"""JSON, once, first: `duration_s`, or null."""
AUDIO = b"A"
"""Samples, 16 kHz, mono, float32, in the byte order of the machine."""
WARNING = b"W"
"""JSON: `code`, `message`."""
ERROR = b"E"
"""JSON, last: `code`, one of the next two, and `message`."""
END = b"Z"
"""Last: all of the recording was sent."""

UNREADABLE, TOO_LONG = "unreadable", "too_long"


def packed(kind: bytes, body: bytes = b"") -> bytes:
    """A message with its header."""
    return HEADER.pack(kind, len(body)) + body


def packed_json(kind: bytes, **fields: Any) -> bytes:
    """A message whose body is a JSON object."""
    return packed(kind, json.dumps(fields).encode())
