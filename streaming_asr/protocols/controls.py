"""Control messages in binary frames, which are for audio, or for nothing at all."""

from __future__ import annotations

from typing import Any

from streaming_asr.protocols.base import ReportRepair
from streaming_asr.protocols.json_messages import BadMessage, Reader

BINARY_CONTROL = ReportRepair("binary_control", "A control message was in a binary frame; send it as text.")
LONGEST_CONTROL = 4096
"""Bytes of a control message in a binary frame; a longer one is audio."""


def find_control(message: bytes, reader: Reader[Any]) -> str | None:
    """The control message in a binary frame, or None if it is audio.

    Some clients send their JSON as binary, Deepgram's Go SDK among them. Taken for audio, it would be a click, and its
    odd length would shift all samples that follow.

    Args:
        reader: of the protocol's control messages.
    """
    if len(message) > LONGEST_CONTROL or not message.startswith(b"{") or not message.rstrip().endswith(b"}"):
        return None
    try:
        text = message.decode()
        reader.read(text)
    except (UnicodeDecodeError, BadMessage):
        return None
    return text


def text_in(message: bytes) -> str | None:
    """The text of a JSON object in a binary frame of a protocol whose messages are all text; None if it has none."""
    if not message.lstrip().startswith(b"{"):
        return None
    try:
        return message.decode()
    except UnicodeDecodeError:
        return None
