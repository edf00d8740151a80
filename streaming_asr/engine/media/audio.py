"""A recording -> 16 kHz mono audio, in this process: for the child, and for files that are trusted."""

from __future__ import annotations

import io
from collections.abc import Iterator

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.engine.media.converter import Converter
from streaming_asr.engine.media.reader import MediaReader
from streaming_asr.engine.media.repairs import Repair


def open_media(descriptor: int, *, live: bool = False) -> MediaReader:
    """Open what a descriptor gives, which is closed with the reader.

    Args:
        live: see `MediaReader`.

    Raises:
        UnreadableMedia: see `MediaReader`.
    """
    file = io.FileIO(descriptor, "r")
    return MediaReader(file if file.seekable() else io.BufferedReader(file), live=live)


def read_audio(reader: MediaReader) -> Iterator[Audio | Repair]:
    """Yield the audio in pieces of shape ``[n]``, and what was repaired.

    Raises:
        UnreadableMedia: there was no audio that could be decoded.
    """
    converter = Converter(SAMPLE_RATE)
    for item in reader.read():
        if isinstance(item, Repair):
            yield item
        elif len(samples := converter.convert(item)):
            yield samples[:, 0]
    if len(rest := converter.finish()):
        yield rest[:, 0]
