"""Audio and video files -> 16-bit PCM for the wire, piece by piece, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

MIN_RATE, MAX_RATE = 8_000, 48_000
"""Hz that the server accepts."""
OTHER_RATE = 16_000
"""Hz to which audio outside that range is resampled: the rate of the recognizers."""
FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv", "loas", "matroska",
    "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nut", "ogg", "rm", "tak", "tta", "voc", "w64",
    "wav", "wv",
)  # fmt: skip
"""FFmpeg's names of the containers that are read. None of them opens another file or address, as playlists and
FFmpeg's own concatenation format do: an upload of 36 bytes that names itself would take all file descriptors."""
_BLOCK_S = 0.5
"""Length that is decoded at once."""

Floats = NDArray[np.float32]


class UnreadableAudio(Exception):
    """The file is missing, is not audio, or is cut off. The message is for the user."""


@dataclass(frozen=True)
class AudioFile:
    """A file being read."""

    rate: int
    """Hz of the pieces."""
    channels: int
    duration_s: float | None
    """As stated by the file; None if it is not."""
    pieces: Iterator[bytes]
    """16-bit little-endian, channels interleaved; raises `UnreadableAudio` where the file is cut off."""

    @property
    def bytes_per_second(self) -> int:
        return self.rate * self.channels * 2


@contextmanager
def open_audio(path: Path, *, split_channels: bool = False, piece_ms: int = 100) -> Iterator[AudioFile]:
    """Open a file of any format that soundfile or PyAV reads; of a video, the first audio track.

    Args:
        split_channels: keep the two channels of a stereo file; otherwise channels are mixed.
        piece_ms: length of the pieces; the last may be shorter.

    Raises:
        UnreadableAudio: it can't be read.
    """
    if not path.is_file():
        raise UnreadableAudio(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    with closing(_open(path, split_channels)) as source:
        channels = 2 if split_channels and source.channels == 2 else 1
        if split_channels and source.channels > 2:
            raise UnreadableAudio(f"{path}: it has {source.channels} channels; only two can be kept apart")
        rate = source.rate if MIN_RATE <= source.rate <= MAX_RATE else OTHER_RATE
        blocks = _resample(_mix(source.blocks(), channels), source.rate, rate, channels)
        pieces = _split(blocks, max(1, rate * piece_ms // 1000))
        yield AudioFile(rate, channels, source.duration_s, pieces)


_MISSING = "is not installed"


def _open(path: Path, split_channels: bool) -> _SoundFile | _AvFile:
    reasons = []
    for reader in (_SoundFile, _AvFile):
        source = _attempt(reader, path, split_channels)
        if not isinstance(source, str):
            return source
        reasons.append(source)
    known = [reason for reason in reasons if not reason.endswith(_MISSING)]
    hint = "" if len(known) == len(reasons) else "; more formats are read with: pip install 'streaming-asr[mic]'"
    if not known:
        raise UnreadableAudio("Reading audio files needs soundfile or PyAV: pip install 'streaming-asr[mic]'")
    raise UnreadableAudio(f"{path}: not audio that can be read ({known[-1]}{hint})")


def _attempt(reader: type[_SoundFile] | type[_AvFile], path: Path, split_channels: bool) -> _SoundFile | _AvFile | str:
    """The opened file, or why it can't be."""
    try:
        source = reader(path, split_channels)
    except ImportError as error:
        return f"{error.name} {_MISSING}"
    except (OSError, UnreadableAudio) as error:
        # soundfile raises OSError where its own library is missing.
        return str(error).rstrip(".")
    if source.rate > 0 and source.channels > 0:
        return source
    source.close()
    return "it has no audio"


class _SoundFile:
    """WAV, FLAC, Ogg, MP3 and others, by libsndfile."""

    def __init__(self, path: Path, split_channels: bool) -> None:
        import soundfile

        self._path = path
        try:
            self._file = soundfile.SoundFile(path)
        except soundfile.SoundFileError as error:
            raise UnreadableAudio(str(error).rpartition(": ")[2].strip()) from None
        self._error = soundfile.SoundFileError
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.duration_s: float | None = self._file.frames / self.rate if 0 < self._file.frames < 2**48 else None

    def blocks(self) -> Iterator[Floats]:
        """Each of shape ``[n, channels]``."""
        read = 0
        while True:
            try:
                block = self._file.read(int(self.rate * _BLOCK_S), dtype="float32", always_2d=True)
            except self._error as error:
                raise _cut_off(self._path, read / self.rate, error) from None
            if not len(block):
                return
            read += len(block)
            yield block

    def close(self) -> None:
        self._file.close()


class _AvFile:
    """Whatever FFmpeg reads. More than two channels are mixed by FFmpeg, which knows what each of them is."""

    def __init__(self, path: Path, split_channels: bool) -> None:
        import av

        self._path = path
        self._av = av
        try:
            options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
            self._container: Any = av.open(f"file:{path}", options=options)
        except av.FFmpegError as error:
            raise UnreadableAudio(str(error.strerror)) from None
        if not self._container.streams.audio:
            self._container.close()
            raise UnreadableAudio("it has no audio")
        stream = self._container.streams.audio[0]
        self.rate: int = stream.rate
        own_channels: int = stream.codec_context.channels
        self.channels = own_channels if split_channels else 1
        self.duration_s = self._container.duration / av.time_base if self._container.duration else None
        layout = "mono" if self.channels == 1 else stream.layout.name
        self._resampler = av.AudioResampler(format="flt", layout=layout, rate=self.rate)

    def blocks(self) -> Iterator[Floats]:
        """Each of shape ``[n, channels]``."""
        frames = self._container.decode(audio=0)
        read = 0
        while True:
            try:
                frame = next(frames, None)
                converted = self._resampler.resample(frame)
            except self._av.FFmpegError as error:
                raise _cut_off(self._path, read / self.rate, error.strerror) from None
            for piece in converted:
                block = np.asarray(piece.to_ndarray(), np.float32).reshape(-1, self.channels)
                read += len(block)
                yield block
            if frame is None:
                return

    def close(self) -> None:
        self._container.close()


def _cut_off(path: Path, at_s: float, error: object) -> UnreadableAudio:
    return UnreadableAudio(f"{path}: it is cut off after {at_s:.1f} s ({str(error).strip().rstrip('.')})")


def _mix(blocks: Iterator[Floats], channels: int) -> Iterator[Floats]:
    for block in blocks:
        yield block if block.shape[1] == channels else block.mean(axis=1, keepdims=True)


def _resample(blocks: Iterator[Floats], rate: int, target: int, channels: int) -> Iterator[Floats]:
    if rate == target:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, target, channels, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def _split(blocks: Iterator[Floats], frames: int) -> Iterator[bytes]:
    """16-bit pieces of the given number of frames; the last may be shorter."""
    rest = b""
    size = 0
    for block in blocks:
        samples = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0) * 32768
        size = frames * 2 * block.shape[1]
        rest += np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
        whole = len(rest) - len(rest) % size
        for start in range(0, whole, size):
            yield rest[start : start + size]
        rest = rest[whole:]
    if rest:
        yield rest
