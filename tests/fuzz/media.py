"""Recordings, from bytes: in this process, where a crash of FFmpeg is one of the fuzzer, and through the child."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
from collections.abc import Sequence

import numpy as np

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.engine.media.audio import open_media, read_audio
from streaming_asr.engine.media.decoders import Decoders, MediaRefused
from streaming_asr.engine.media.reader import UnreadableMedia
from streaming_asr.engine.media.repairs import Repair
from tests.support.media_files import clip, encoded, wav

LONGEST_S = 600.0
"""Audio that is read of one recording; a few bytes may claim hours."""
ENDS_WITHIN_S = 300.0


def read_recording(data: bytes) -> int:
    """Read a recording as the child does; returns 1.

    Raises:
        Exception: something else than that it can't be read.
    """
    left = LONGEST_S * SAMPLE_RATE
    with contextlib.suppress(UnreadableMedia):
        for item in read_audio(open_media(_file(data))):
            if isinstance(item, Repair):
                continue
            assert np.isfinite(item).all()
            left -= len(item)
            if left < 0:
                break
    return 1


@functools.cache
def _decoders() -> tuple[asyncio.AbstractEventLoop, Decoders]:
    return asyncio.new_event_loop(), Decoders(LONGEST_S)


def decode_in_child(data: bytes) -> int:
    """Have a child decode a recording; returns 1.

    Raises:
        Exception: it is neither decoded nor refused, or its child stays.
    """
    loop, decoders = _decoders()

    async def decode() -> int:
        descriptor = _file(data)
        try:
            async with decoders.open(descriptor) as recording:
                try:
                    async for item in recording.read():
                        assert isinstance(item, SessionWarning) or np.isfinite(item).all()
                except MediaRefused as refused:
                    if str(refused) == "its decoder failed":
                        raise AssertionError("the child crashed") from None
                return recording.pid
        finally:
            os.close(descriptor)

    pid = loop.run_until_complete(asyncio.wait_for(decode(), ENDS_WITHIN_S))
    loop.run_until_complete(decoders.close())
    assert not os.path.exists(f"/proc/{pid}"), "its child is still there"
    return 1


def _file(data: bytes) -> int:
    """A descriptor of a file that has no name."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return os.dup(file.fileno())


@functools.cache
def seeds() -> Sequence[bytes]:
    """Short recordings of many formats."""
    speech = clip("a")[:8_000]
    return (
        wav(speech),
        encoded("ogg", "libopus", speech),
        encoded("webm", "libopus", speech),
        encoded("mp3", "libmp3lame", speech),
        encoded("flac", "flac", speech),
        encoded("mp4", "aac", speech),
        encoded("mp4", "aac", speech, movflags="frag_keyframe+empty_moov"),
        encoded("adts", "aac", speech),
        encoded("aiff", "pcm_s16be", speech),
        encoded("caf", "pcm_s16be", speech),
        encoded("au", "pcm_s16be", speech),
        encoded("mpegts", "mp2", speech),
        encoded("avi", "pcm_s16le", speech),
        encoded("w64", "pcm_s16le", speech),
    )
