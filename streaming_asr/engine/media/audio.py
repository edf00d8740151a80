"""A recording -> 16 kHz mono audio, in this process: for the child, and for files that are trusted."""

from __future__ import annotations

import io
from collections.abc import Iterator

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.engine.media.converter import Converter, Frames
from streaming_asr.engine.media.reader import MediaReader
from streaming_asr.engine.media.repairs import Repair


def open_media(descriptor: int) -> MediaReader:
    """Open what a descriptor gives, which is closed with the reader.

    Raises:
        UnreadableMedia: see `MediaReader`.
    """
    file = io.FileIO(descriptor, "r")
    return MediaReader(file if file.seekable() else io.BufferedReader(file))


def read_audio(reader: MediaReader) -> Iterator[Audio | Repair]:
    """Yield the audio in pieces of shape ``[n]``, and what was repaired.

    Raises:
        UnreadableMedia: there was no audio that could be decoded.
    """
    for item in read_channels(reader, 1):
        yield item if isinstance(item, Repair) else item[:, 0]


def read_channels(reader: MediaReader, channels: int) -> Iterator[Frames | Repair]:
    """Yield the audio in pieces of shape ``[n, channels]``, and what was repaired.

    Args:
        channels: see `Converter`.

    Raises:
        UnreadableMedia: there was no audio that could be decoded.
    """
    converter = Converter(SAMPLE_RATE, channels)
    for item in reader.read():
        if isinstance(item, Repair):
            yield item
        elif len(samples := converter.convert(item)):
            yield samples
    if len(rest := converter.finish()):
        yield rest
