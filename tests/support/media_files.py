"""Recordings as they come in practice: damaged, joined, late, with holes, with headers that are wrong.

Each case is made from two clips by PyAV, and says where a reader must find the clips. Server and clients have to pass
the same table.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16_000
PAUSE_S = 1.5
Samples = NDArray[np.float32]
"""Mono, 16 kHz, shape ``[n]``."""

_SPEECH = Path(__file__).parents[1] / "speech/librivox"


@cache
def clip(name: str) -> Samples:
    """`a`, 3.3 s, or `b`, 7.1 s."""
    pattern = {"a": "*0930.wav", "b": "*0870.wav"}[name]
    samples, rate = soundfile.read(next(_SPEECH.glob(pattern)), dtype="float32")
    assert rate == RATE
    return np.asarray(samples, np.float32)


def encoded(
    container: str,
    codec: str,
    samples: Samples,
    *,
    rate: int = RATE,
    channels: int = 1,
    late_s: float = 0.0,
    hole: tuple[float, float] | None = None,
    video: bool = False,
    **options: str,
) -> bytes:
    """A recording.

    Args:
        samples: the same in all channels.
        late_s: timestamp of the first audio.
        hole: at this position the timestamps jump by the second number, both seconds.
        video: whether there is a video track, from 0 on.
    """
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    resampled = soxr.resample(samples, RATE, rate) if rate != RATE else samples
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        track: Any = output.add_stream(codec, rate=rate)
        track.layout = layout
        if video:
            _add_video(output)
        interleaved = np.ascontiguousarray(np.repeat(resampled[:, None], channels, 1)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.rate = rate
        resampler = av.AudioResampler(format=track.format.name, layout=layout, rate=rate)
        fifo = av.AudioFifo()
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            fifo.write(piece)
        packets = []
        while (block := fifo.read(track.codec_context.frame_size or 1024, partial=True)) is not None:
            packets += track.encode(block)
        for packet in [*packets, *track.encode(None)]:
            at_s = float(packet.pts * packet.time_base)
            jump_s = late_s + (hole[1] if hole is not None and at_s >= hole[0] else 0.0)
            packet.pts = packet.dts = packet.pts + round(jump_s / packet.time_base)
            output.mux(packet)
    return file.getvalue()


def _add_video(output: Any) -> None:
    pictures = output.add_stream("mpeg4", rate=10)
    pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
    for number in range(120):
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        image.pts = number
        output.mux(pictures.encode(image))
    output.mux(pictures.encode(None))


def wav(samples: NDArray[np.float32], *, rate: int = RATE, size: int | None = None, info: bytes = b"") -> bytes:
    """A 16-bit WAV.

    Args:
        samples: shape ``[n]`` or ``[n, channels]``.
        size: what the header states; the right one by default.
        info: the artist's name.
    """
    frames = samples if samples.ndim == 2 else samples[:, None]
    channels = frames.shape[1]
    data = np.rint(frames * 32767).astype("<i2").tobytes()
    tags = b"INFOIART" + struct.pack("<I", len(info)) + info + bytes(len(info) % 2) if info else b""
    chunks = b"LIST" + struct.pack("<I", len(tags)) + tags if tags else b""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels & 0xFFFFFFFF, 2 * channels, 16)
    stated = len(data) if size is None else size
    whole = 36 + len(chunks) + len(data) if size is None else size
    return (
        b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt " + struct.pack("<I", 16) + form
        + chunks + b"data" + struct.pack("<I", stated) + data
    )  # fmt: skip


def _two() -> Samples:
    return np.concatenate([clip("a"), np.zeros(round(PAUSE_S * RATE), np.float32), clip("b")])


def _damaged(recording: bytes, count: int = 200) -> bytes:
    """The recording with random bytes at 33 %, in the pause between the clips."""
    at = len(recording) * 33 // 100
    return recording[:at] + np.random.default_rng(1).bytes(count) + recording[at + count :]


def _two_tracks(*tracks: Samples) -> bytes:
    """A Matroska file of FLAC tracks."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        streams: list[Any] = [output.add_stream("flac", rate=RATE, layout="mono") for _ in tracks]
        packets = []
        for stream, samples in zip(streams, tracks, strict=True):
            data = np.rint(samples * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            frame.rate = RATE
            fifo = av.AudioFifo()
            fifo.write(frame)
            at = 0
            while (block := fifo.read(4096, partial=True)) is not None:
                block.pts, at = at, at + block.samples
                packets += stream.encode(block)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            output.mux(packet)
    return file.getvalue()


def _float_wav(samples: Samples) -> bytes:
    recording = io.BytesIO()
    soundfile.write(recording, samples, RATE, "FLOAT", format="WAV")
    return recording.getvalue()


def _with_infinity(samples: Samples) -> Samples:
    """The samples; 4 of the first 100 ms are not numbers."""
    samples = samples.copy()
    samples[[100, 200, 300, 400]] = [np.nan, np.inf, -np.inf, np.nan]
    return samples


def _on_channel(index: int, channels: int) -> NDArray[np.float32]:
    frames = np.zeros((len(clip("b")), channels), np.float32)
    frames[:, index] = clip("b")
    return frames


def _of_undecodable_codec() -> bytes:
    return encoded("webm", "libopus", clip("a"), rate=48_000).replace(b"A_OPUS", b"A_OPUZ")


def _late_avi(codec: str) -> bytes:
    """An AVI whose header says that its audio begins at 4 s; FFmpeg's muxer never does."""
    file = bytearray(encoded("avi", codec, clip("a")))
    header = file.index(b"auds")
    scale, rate = struct.unpack_from("<2I", file, header + 20)
    struct.pack_into("<I", file, header + 28, round(4 * rate / scale))
    return bytes(file)


@dataclass(frozen=True)
class Case:
    """A recording, and what a reader must make of it."""

    make: Callable[[], bytes]
    clips: dict[str, float]
    """Where each clip begins, seconds."""
    length_s: float
    repairs: tuple[str, ...] = ()
    """Words of the messages, in order."""


_A_S, _B_S = 3.29, 7.1
_BOTH = {"a": 0.0, "b": _A_S + PAUSE_S}
_BOTH_S = _A_S + PAUSE_S + _B_S
_JOINED = {"a": 0.0, "b": _A_S}
_JOINED_S = _A_S + _B_S


def _damage(container: str, codec: str, **options: Any) -> Case:
    return Case(lambda: _damaged(encoded(container, codec, _two(), **options)), _BOTH, _BOTH_S, ("damaged",))


def _join(*parts: Callable[[Samples], bytes]) -> Case:
    first, second = parts
    return Case(lambda: first(clip("a")) + second(clip("b")), _JOINED, _JOINED_S)


def _as(container: str, codec: str, **options: Any) -> Callable[[Samples], bytes]:
    return lambda samples: encoded(container, codec, samples, **options)


CASES = {
    "damaged MP3": _damage("mp3", "libmp3lame"),
    "MP3 of which 3 kB were overwritten": Case(
        lambda: _damaged(encoded("mp3", "libmp3lame", _two()), 3_000), _BOTH, _BOTH_S, ("1.08 s could not be",)
    ),
    "AC-3 of which 3 kB were overwritten": Case(
        lambda: _damaged(encoded("ac3", "ac3", _two(), rate=48_000), 3_000), _BOTH, _BOTH_S, ("0.29 s could not be",)
    ),
    "damaged AAC": _damage("adts", "aac"),
    "damaged M4A": _damage("ipod", "aac"),
    "damaged FLAC": _damage("flac", "flac"),
    "damaged AC-3": _damage("ac3", "ac3", rate=48_000),
    "damaged TTA": _damage("tta", "tta"),
    "joined WavPack of two rates": Case(
        lambda: encoded("wv", "wavpack", clip("a")) + encoded("wv", "wavpack", clip("b"), rate=44_100),
        {"a": 0.0},
        _A_S,
        ("what follows",),
    ),
    "CAF with a chunk of more bytes than a file can have": Case(
        lambda: encoded("caf", "pcm_s16le", clip("a")) + b"info" + (2**62).to_bytes(8, "big"), {"a": 0.0}, _A_S
    ),
    "WAV, then a damaged WAV": Case(
        lambda: wav(clip("a")) + wav(clip("b")).replace(b"fmt ", b"xxxx"), {"a": 0.0}, _A_S, ("what follows",)
    ),
    "MP3s": _join(_as("mp3", "libmp3lame"), _as("mp3", "libmp3lame")),
    "MP3s of two rates": _join(_as("mp3", "libmp3lame", rate=22_050), _as("mp3", "libmp3lame", rate=44_100)),
    "MP3s, mono and stereo": _join(_as("mp3", "libmp3lame"), _as("mp3", "libmp3lame", channels=2)),
    "AAC of two rates": _join(_as("adts", "aac"), _as("adts", "aac", rate=44_100, channels=2)),
    "MPEG-TS of two rates": _join(_as("mpegts", "aac", rate=44_100), _as("mpegts", "aac", rate=48_000, channels=2)),
    "WebMs": _join(_as("webm", "libopus", rate=48_000), _as("webm", "libopus", rate=48_000)),
    "chained Ogg": _join(_as("ogg", "libopus", rate=48_000), _as("ogg", "libopus", rate=48_000)),
    "chained Ogg, mono and stereo": _join(
        _as("ogg", "libopus", rate=48_000), _as("ogg", "libopus", rate=48_000, channels=2)
    ),
    "chained Ogg of two codecs": _join(_as("ogg", "libopus", rate=48_000), _as("ogg", "flac", rate=44_100)),
    "FLACs of two rates": _join(_as("flac", "flac"), _as("flac", "flac", rate=48_000, channels=2)),
    "WAVs of two rates": _join(wav, _as("wav", "pcm_s16le", rate=44_100, channels=2)),
    "AIFFs of two rates": _join(_as("aiff", "pcm_s16be"), _as("aiff", "pcm_s16be", rate=44_100, channels=2)),
    "CAFs": _join(_as("caf", "pcm_s16be"), _as("caf", "pcm_s16be", rate=44_100)),
    "FLVs": _join(_as("flv", "aac", rate=44_100), _as("flv", "aac", rate=44_100)),
    "AVIs": _join(_as("avi", "pcm_s16le"), _as("avi", "pcm_s16le")),
    "M4As": _join(_as("ipod", "aac"), _as("ipod", "aac", rate=44_100)),
    "video with late audio": Case(
        lambda: encoded("mp4", "aac", clip("a"), late_s=4.0, video=True), {"a": 4.0}, 4 + _A_S
    ),
    "late audio alone": Case(
        lambda: encoded("matroska", "libopus", clip("a"), rate=48_000, late_s=4.0), {"a": 4.0}, 4 + _A_S
    ),
    "AVI with late audio": Case(lambda: _late_avi("pcm_s16le"), {"a": 4.0}, 4 + _A_S),
    "AVI with late MP3": Case(lambda: _late_avi("libmp3lame"), {"a": 4.0}, 4 + _A_S),
    "MPEG-TS with late audio": Case(
        lambda: encoded("mpegts", "aac", clip("a"), rate=48_000, late_s=4.0, video=True), {"a": 4.0}, 4 + _A_S
    ),
    "hole": Case(
        lambda: encoded("matroska", "flac", np.concatenate([clip("a"), clip("b")]), hole=(_A_S, PAUSE_S)),
        _BOTH,
        _BOTH_S,
        ("hole of 1.5 s",),
    ),
    "hole of five hours": Case(
        lambda: encoded("matroska", "flac", np.concatenate([clip("a"), clip("b")]), hole=(_A_S, 18_000.0)),
        _JOINED,
        _JOINED_S,
    ),
    "WAV of size 0": Case(lambda: wav(clip("b"), size=0), {"b": 0.0}, _B_S),
    "WAV of size 0x7FFFFFFF": Case(lambda: wav(clip("b"), size=0x7FFFFFFF), {"b": 0.0}, _B_S),
    "WAV of size 0xFFFFFFFF": Case(lambda: wav(clip("b"), size=0xFFFFFFFF), {"b": 0.0}, _B_S),
    "WAV with a tag in Latin-1": Case(
        lambda: wav(clip("b"), info="Béla Müller".encode("latin-1")), {"b": 0.0}, _B_S
    ),
    "MP3 with a tag in Latin-1": Case(
        lambda: (
            encoded("mp3", "libmp3lame", clip("b"), write_xing="0", id3v2_version="0")
            + b"TAG"
            + "Café Müller".encode("latin-1").ljust(125, b"\0")
        ),
        {"b": 0.0},
        _B_S,
    ),
    "WAV of floats in the scale of integers": Case(
        lambda: _float_wav(_two() * 32768), {}, _BOTH_S, ("far above full scale",)
    ),
    "WAV of floats, some of which are not numbers": Case(
        lambda: _float_wav(_with_infinity(clip("b"))), {"b": 0.0}, _B_S, ("NaN or infinite",)
    ),
    "channels inverted to each other": Case(
        lambda: wav(np.stack([clip("b"), -clip("b")], 1)), {"b": 0.0}, _B_S
    ),
    "speech on the subwoofer of 5.1": Case(lambda: wav(_on_channel(3, 6)), {"b": 0.0}, _B_S),
    "speech on one of 60 channels": Case(lambda: wav(_on_channel(41, 60)), {"b": 0.0}, _B_S),
    "a silent track before one of speech": Case(
        lambda: _two_tracks(0 * clip("b"), clip("b")), {"b": 0.0}, _B_S, ("the next one was read",)
    ),
    "a track of speech that begins late, before another": Case(
        lambda: _two_tracks(np.concatenate([0 * clip("b"), clip("a")]), clip("b")), {"a": _B_S}, _B_S + _A_S
    ),
    "two silent tracks": Case(
        lambda: _two_tracks(0 * clip("b"), 0 * clip("b")), {}, _B_S, ("the next one was read",)
    ),
    "9 channels": Case(lambda: wav(np.repeat(clip("b")[:, None], 9, 1)), {"b": 0.0}, _B_S),
}  # fmt: skip
"""Recordings that are transcribed."""

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"not audio " * 100, "not a recording in a format that can be read"),
    "nothing": (lambda: b"", "it is empty"),
    "a big-endian WAV": (lambda: wav(clip("a")).replace(b"RIFF", b"RIFX"), r"a big-endian WAV \(RIFX\)"),
    "an MP4 that was cut off": (lambda: encoded("mp4", "aac", clip("a"))[:-3_000], "an MP4 whose index is missing"),
    "a track without a decoder": (_of_undecodable_codec, "no decoder is known for its audio"),
    "a WAV without samples": (lambda: wav(np.zeros(0, np.float32)), "it is empty"),
    "1,073,741,824 Hz": (lambda: wav(clip("a"), rate=2**30), "its sample rate is 1073741824 Hz"),
    "1 Hz": (lambda: wav(clip("a"), rate=1), "its sample rate is 1 Hz"),
    "65 channels": (lambda: wav(np.zeros((100, 65), np.float32)), "it has 65 channels"),
}
"""Recordings that are not, and why."""


def place_of(name: str, samples: Samples) -> tuple[float, float]:
    """Where a clip is found, seconds, and how alike it is, up to 1."""
    known = clip(name)
    size = 1 << (len(samples) + len(known)).bit_length()
    products = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(known, size)), size)[: len(samples)]
    at = int(np.argmax(np.abs(products)))
    found = samples[at : at + len(known)]
    alike = abs(products[at]) / (np.linalg.norm(found) * np.linalg.norm(known) + 1e-9)
    return at / RATE, float(alike)
