"""What goes through the pipes of a child: a byte for the kind, the length of the rest in 4 bytes, the rest.

The child writes them, and reads those of a file that is decoded as it arrives. Of a recording it has the descriptor.
"""

from __future__ import annotations

import json
import struct
from typing import Any

HEADER = struct.Struct("<cI")
MAX_BYTES = 2**20
"""Of a message. The child is not trusted to keep to it."""

# From the child.

INFO = b"I"
"""JSON, once, first: `duration_s`, or null."""
AUDIO = b"A"
"""Samples, 16 kHz, float32, in the byte order of the machine; mono, or two channels interleaved."""
WARNING = b"W"
"""JSON: `code`, `message`."""
ERROR = b"E"
"""JSON, last: `code`, one of the next two, and `message`."""
END = b"Z"
"""Last: all of the recording was sent. To the child: nothing more comes."""

# To the child, and its answer.

DATA = b"D"
"""The next bytes of the file."""
MARK = b"M"
"""Sent back once all audio of the bytes before it has been sent, also what the decoder would keep until more comes."""

UNREADABLE, TOO_LONG = "unreadable", "too_long"


def packed(kind: bytes, body: bytes = b"") -> bytes:
    """A message with its header."""
    return HEADER.pack(kind, len(body)) + body


def packed_json(kind: bytes, **fields: Any) -> bytes:
    """A message whose body is a JSON object."""
    return packed(kind, json.dumps(fields).encode())
