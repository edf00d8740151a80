"""A file that is decoded while it arrives: all its audio, soon, in order with marks, and no more than is allowed."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from streaming_asr.core.events import SessionWarning
from streaming_asr.engine.media.audio import read_audio
from streaming_asr.engine.media.decoders import DecoderLost, Decoders, MediaRefused, MediaTooLong
from streaming_asr.engine.media.live import LiveFile, Marked, started
from streaming_asr.engine.media.reader import MediaReader
from streaming_asr.engine.media.repairs import Repair
from tests.engine.test_media_child import _element
from tests.support.media_files import RATE, Samples, _damaged, clip, encoded, place_of, wav

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a decoder that answers marks is forked")

FRAGMENTED = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
PAUSE = np.zeros(round(1.5 * RATE), np.float32)
A_S = 3.29
_S = A_S + 1.5 + 7.1


@dataclass
class Received:
    """What a decoder returned."""

    pieces: list[Samples] = field(default_factory=list)
    marks_s: list[float] = field(default_factory=list)
    """How much audio there was before each mark."""
    warnings: list[str] = field(default_factory=list)

    @property
    def samples(self) -> Samples:
        return np.concatenate(self.pieces)

    @property
    def length_s(self) -> float:
        return sum(map(len, self.pieces)) / RATE


def _decoded(send: Callable[[LiveFile, Received], object], *, channels: int = 1, within_s: float = 40.0) -> Received:
    """What a file's decoder returns.

    Args:
        send: gives it the file, all but the end; may be a coroutine function.
    """
    received = Received()

    async def run() -> None:
        decoders = Decoders(86_400.0)
        file = LiveFile(channels, lambda full: None)

        async def read() -> None:
            async for item in file.read():
                if isinstance(item, SessionWarning):
                    received.warnings.append(item.message)
                elif isinstance(item, Marked):
                    received.marks_s.append(received.length_s)
                else:
                    received.pieces.append(item if channels > 1 else item[:, 0])

        try:
            async with started(decoders, file, channels, 3600.0):
                reading = asyncio.create_task(read())
                sent = send(file, received)
                if asyncio.iscoroutine(sent):
                    await sent
                file.end()
                await reading
        finally:
            await decoders.close()

    asyncio.run(asyncio.wait_for(run(), within_s))
    return received


def _two() -> Samples:
    return np.concatenate([clip("a"), PAUSE, clip("b")])


def _as(container: str, codec: str, samples: Samples | None = None, rate: int = RATE, **options: str) -> bytes:
    return encoded(container, codec, _two() if samples is None else samples, rate=rate, **options)


FILES: dict[str, Callable[[], bytes]] = {
    "WebM of Opus": lambda: _as("webm", "libopus", rate=48_000, live="1"),
    "Ogg of Opus": lambda: _as("ogg", "libopus", rate=48_000),
    "Ogg of FLAC": lambda: _as("ogg", "flac"),
    "fragments of MP4": lambda: _as("mp4", "aac", **FRAGMENTED),
    "MP3": lambda: _as("mp3", "libmp3lame"),
    "AAC": lambda: _as("adts", "aac"),
    "AAC as LOAS": lambda: _as("latm", "aac"),
    "AC-3": lambda: _as("ac3", "ac3", rate=48_000),
    "FLAC": lambda: _as("flac", "flac"),
    "MPEG-TS": lambda: _as("mpegts", "aac", rate=48_000),
    "WAV": lambda: wav(_two()),
    "WAV of unknown size": lambda: wav(_two(), size=0xFFFFFFFF),
    "WAV of size 0": lambda: wav(_two(), size=0),
    "WAV with a tag behind its audio": lambda: wav(_two()) + b"LIST" + struct.pack("<I", 3000) + bytes(range(250)) * 12,
    "WAVs": lambda: wav(clip("a")) + wav(np.concatenate([PAUSE, clip("b")])),
    "FLACs": lambda: _as("flac", "flac", clip("a")) + _as("flac", "flac", np.concatenate([PAUSE, clip("b")])),
    "chained Ogg": lambda: (
        _as("ogg", "libopus", clip("a"), 48_000) + _as("ogg", "libopus", np.concatenate([PAUSE, clip("b")]), 48_000)
    ),
    "WebMs": lambda: (
        _as("webm", "libopus", clip("a"), 48_000, live="1")
        + _as("webm", "libopus", np.concatenate([PAUSE, clip("b")]), 48_000, live="1")
    ),
    "MP4s in fragments": lambda: (
        _as("mp4", "aac", clip("a"), **FRAGMENTED) + _as("mp4", "aac", np.concatenate([PAUSE, clip("b")]), **FRAGMENTED)
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_all_audio_is_returned_and_before_each_mark_all_that_had_arrived(name: str) -> None:
    file = FILES[name]()
    middle = len(file) * 6 // 10

    def send(live: LiveFile, _: Received) -> None:
        for start in range(0, middle, 997):
            live.write(file[start : min(start + 997, middle)])
        live.mark()
        live.mark()
        live.write(file[middle:])

    received = _decoded(send)
    known_s = sum(
        len(item) for item in read_audio(MediaReader(io.BytesIO(file[:middle]))) if not isinstance(item, Repair)
    )
    assert received.marks_s == pytest.approx([known_s / RATE] * 2, abs=0.12)
    assert received.length_s == pytest.approx(_S, abs=0.25)
    assert received.warnings == []
    for clip_name, at_s in {"a": 0.0, "b": A_S + 1.5}.items():
        found_s, alike = place_of(clip_name, received.samples)
        assert found_s == pytest.approx(at_s, abs=0.2)
        assert alike > 0.97


@pytest.mark.parametrize(
    ("name", "bytes_needed"),
    [("WebM of Opus", 2_000), ("Ogg of Opus", 12_000), ("fragments of MP4", 3_000), ("AAC", 2_000), ("WAV", 6_000)],
)
def test_the_first_audio_comes_with_the_first_bytes(name: str, bytes_needed: int) -> None:
    file = FILES[name]()

    async def send(live: LiveFile, received: Received) -> None:
        live.write(file[:bytes_needed])
        while not received.pieces:  # noqa: ASYNC110 - the whole has a deadline
            await asyncio.sleep(0.01)

    assert _decoded(send).length_s > 0.02


def test_two_channels_are_kept_apart() -> None:
    file = wav(np.stack([clip("a"), -0.5 * clip("a")], 1))
    samples = _decoded(lambda live, _: live.write(file), channels=2).samples
    assert np.abs(samples[:, 1] + 0.5 * samples[:, 0]).max() < 0.001
    assert len(samples) == len(clip("a"))


def test_a_damaged_stretch_costs_itself_and_is_reported() -> None:
    file = _damaged(_as("adts", "aac"))
    received = _decoded(lambda live, _: live.write(file))
    assert place_of("b", received.samples)[1] > 0.97
    assert any("damaged" in warning for warning in received.warnings)


def test_what_follows_a_file_and_is_none_is_reported() -> None:
    file = _as("flac", "flac")[:20_000] + bytes(50_000)
    received = _decoded(lambda live, _: (live.write(file), live.mark()))
    assert len(received.marks_s) == 1


def test_a_long_hole_in_the_timestamps_is_closed() -> None:
    file = encoded("matroska", "flac", np.concatenate([clip("a"), clip("b")]), hole=(A_S, 1000.0), live="1")
    assert _decoded(lambda live, _: live.write(file)).length_s == pytest.approx(A_S + 7.1, abs=0.1)


def test_time_begins_with_the_first_audio() -> None:
    file = encoded("matroska", "flac", clip("a"), late_s=500.0, live="1")
    assert _decoded(lambda live, _: live.write(file)).length_s == pytest.approx(A_S, abs=0.1)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (lambda: _as("mp4", "aac"), "an MP4 must be sent in fragments, or with its index at its beginning"),
        (lambda: b"\x1aE\xdf\xa3" + bytes(5_000), "not a recording in a format that can be read"),
        (lambda: _as("webm", "libopus", rate=48_000).replace(b"A_OPUS", b"A_OPUZ"), "no decoder is known"),
        (lambda: wav(clip("a"), rate=2**30), "its sample rate is 1073741824 Hz"),
    ],
)
def test_a_file_that_can_not_be_decoded_is_refused(file: Callable[[], bytes], why: str) -> None:
    with pytest.raises(MediaRefused, match=why):
        _decoded(lambda live, _: live.write(file()))


def test_a_recorder_that_is_stopped_at_once_is_not_an_error() -> None:
    file = _as("webm", "libopus", clip("a"), 48_000, live="1")
    assert _decoded(lambda live, _: live.write(file[:100])).pieces == []


def _matroska_of_holes(count: int) -> bytes:
    """One sample every 9 s."""
    pcm = _element("b5", struct.pack(">f", 16_000)) + _element("9f", b"\1") + _element("6264", b"\x10")
    track = _element("d7", b"\1") + _element("83", b"\2") + _element("86", b"A_PCM/INT/LIT") + _element("e1", pcm)
    clusters = [
        _element("1f43b675", _element("e7", (9000 * number).to_bytes(4, "big")) + _element("a3", b"\x81\0\0\x80\0\0"))
        for number in range(count)
    ]
    segment = _element("1654ae6b", _element("ae", track)) + b"".join(clusters)
    return _element("1a45dfa3", _element("4282", b"matroska")) + _element("18538067", segment)


def test_more_audio_than_the_bytes_can_have_is_refused() -> None:
    file = _matroska_of_holes(20)
    with pytest.raises(MediaTooLong, match="bytes are more than"):
        _decoded(lambda live, _: live.write(file))


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="this limit is Linux's")
def test_processor_time_is_bounded_in_relation_to_the_audio() -> None:
    async def send(live: LiveFile, received: Received) -> None:
        import psutil

        live.write(wav(clip("a"), size=0))
        live.mark()
        while not received.marks_s:  # noqa: ASYNC110 - the whole has a deadline
            await asyncio.sleep(0.01)
        assert live.pid is not None
        child = psutil.Process(live.pid)
        soft, hard = child.rlimit(psutil.RLIMIT_CPU)
        assert soft < 30 < 900 < hard < 1000
        assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        child.rlimit(psutil.RLIMIT_CPU, (1, 1))
        for _ in range(150):
            live.write(wav(np.tile(clip("b"), 10), size=0))

    with pytest.raises(DecoderLost, match="takes too long"):
        _decoded(send)


def test_no_process_is_left() -> None:
    pids: list[int] = []

    async def send(live: LiveFile, received: Received) -> None:
        live.write(FILES["FLAC"]())
        live.mark()
        while not received.marks_s:  # noqa: ASYNC110 - the whole has a deadline
            await asyncio.sleep(0.01)
        assert live.pid is not None
        pids.append(live.pid)

    _decoded(send)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
