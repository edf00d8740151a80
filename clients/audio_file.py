"""Audio and video files -> 16-bit PCM for the wire, piece by piece, in constant memory."""

from __future__ import annotations

import errno
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soxr
from numpy.typing import NDArray

MIN_RATE, MAX_RATE = 8_000, 48_000
"""Hz that the server accepts."""
OTHER_RATE = 16_000
"""Hz to which audio outside that range is resampled: the rate of the recognizers."""
_BLOCK_S = 0.5
"""Length that is decoded at once."""

Floats = NDArray[np.float32]
"""Samples, shape ``[n, channels]``."""
OnRepair = Callable[[str], None]


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
    piped: bool
    """Whether the next piece may have to be waited for."""

    @property
    def bytes_per_second(self) -> int:
        return self.rate * self.channels * 2


@contextmanager
def open_audio(
    path: Path, *, split_channels: bool = False, piece_ms: int = 100, on_repair: OnRepair = lambda message: None
) -> Iterator[AudioFile]:
    """Open a file of any format that PyAV or soundfile reads; of a video, the first audio track that can be decoded.

    Damaged stretches and holes become silence, changes of rate and channels are followed, and the channels are mixed
    by what they hold.

    Args:
        path: also a pipe; `-` is standard input.
        split_channels: keep the two channels of a stereo file; otherwise channels are mixed.
        piece_ms: length of the pieces; the last may be shorter.
        on_repair: called with a sentence for what was damaged and put right.

    Raises:
        UnreadableAudio: it can't be read.
    """
    try:
        file = _file(path)
    except OSError as error:
        reason = {errno.ENOENT: "no such file", errno.EISDIR: "a folder, not a file"}
        raise UnreadableAudio(f"{path}: {reason.get(error.errno or 0, error.strerror)}") from None
    with file:
        source = _open(path, file, on_repair)
        channels = 2 if split_channels and source.own_channels == 2 else 1
        if split_channels and source.own_channels > 2:
            raise UnreadableAudio(f"{path}: it has {source.own_channels} channels; only two can be kept apart")
        rate = source.rate if MIN_RATE <= source.rate <= MAX_RATE else OTHER_RATE
        pieces = _split(_named(path, source.blocks(rate, channels)), max(1, rate * piece_ms // 1000))
        yield AudioFile(rate, channels, source.duration_s, pieces, not file.seekable())


def _file(path: Path) -> IO[bytes]:
    """Open a file, or standard input.

    Raises:
        OSError: it can't be opened.
    """
    file = io.BufferedReader(io.FileIO(0, closefd=False)) if str(path) == "-" else path.open("rb")
    if file.seekable() or file.peek(8)[4:8] != b"ftyp":
        return file
    # MP4 files mostly have their index at the end.
    with file:
        kept = tempfile.TemporaryFile()  # noqa: SIM115
        shutil.copyfileobj(file, kept)
    kept.seek(0)
    return kept


class _UnknownFormat(UnreadableAudio):
    """Another library may know the format."""


_MISSING = "is not installed"


def _open(path: Path, file: IO[bytes], on_repair: OnRepair) -> _AvFile | _SoundFile:
    reasons = []
    for reader in (_AvFile, _SoundFile):
        try:
            source = _attempt(reader, file, on_repair)
        except UnreadableAudio as error:
            raise UnreadableAudio(f"{path}: {error}") from None
        if not isinstance(source, str):
            return source
        reasons.append(source)
        if file.seekable():
            file.seek(0)
    known = [reason for reason in reasons if not reason.endswith(_MISSING)]
    hint = "" if len(known) == len(reasons) else "; more formats are read with: pip install 'streaming-asr[mic]'"
    if not known:
        raise UnreadableAudio("Reading audio files needs soundfile or PyAV: pip install 'streaming-asr[mic]'")
    raise UnreadableAudio(f"{path}: not audio that can be read ({known[0]}{hint})")


def _attempt(
    reader: type[_AvFile] | type[_SoundFile], file: IO[bytes], on_repair: OnRepair
) -> _AvFile | _SoundFile | str:
    """The opened file, or why it can't be."""
    try:
        return reader(file, on_repair)
    except ImportError as error:
        return f"{error.name} {_MISSING}"
    except (OSError, _UnknownFormat) as error:
        # soundfile raises OSError where its own library is missing.
        return str(error).rstrip(".")


def _named(path: Path, blocks: Iterator[Floats]) -> Iterator[Floats]:
    """The blocks; errors name the file."""
    try:
        yield from blocks
    except UnreadableAudio as error:
        raise UnreadableAudio(f"{path}: {error}") from None


class _AvFile:
    """Whatever FFmpeg reads, by PyAV."""

    def __init__(self, file: IO[bytes], on_repair: OnRepair) -> None:
        import av  # noqa: F401

        from clients.media import reader, repairs

        self._repair = repairs.Repair
        self._cut_off = repairs.CUT_OFF
        self._unreadable = reader.UnreadableMedia
        self._on_repair = on_repair
        try:
            self._reader = reader.MediaReader(file)
        except reader.UnknownFormat as error:
            raise _UnknownFormat(str(error)) from None
        except reader.UnreadableMedia as error:
            raise UnreadableAudio(str(error)) from None
        self.rate = self._reader.rate
        self.own_channels = self._reader.channels
        self.duration_s = self._reader.duration_s

    def blocks(self, rate: int, channels: int) -> Iterator[Floats]:
        from clients.media.converter import Converter

        converter = Converter(rate, channels)
        cut_off = None
        try:
            for item in self._reader.read():
                if not isinstance(item, self._repair):
                    yield converter.convert(item)
                elif item.code == self._cut_off:
                    cut_off = item
                else:
                    self._on_repair(item.message)
        except self._unreadable as error:
            raise UnreadableAudio(str(error)) from None
        yield converter.finish()
        if cut_off is not None:
            raise UnreadableAudio(f"it is cut off after {cut_off.at_s:.1f} s; {cut_off.length_s:.1f} s are missing")


class _SoundFile:
    """WAV, FLAC, Ogg, MP3 and others, by libsndfile: where PyAV is not installed, and for formats that it does not
    read."""

    def __init__(self, file: IO[bytes], on_repair: OnRepair) -> None:
        import soundfile

        if not file.seekable():
            raise _UnknownFormat("a pipe is not read without PyAV")
        try:
            self._file = soundfile.SoundFile(file)
        except soundfile.SoundFileError as error:
            raise _UnknownFormat(str(error).rpartition(": ")[2].strip()) from None
        self._error = soundfile.SoundFileError
        self.rate: int = self._file.samplerate
        self.own_channels: int = self._file.channels
        self.duration_s: float | None = self._file.frames / self.rate if 0 < self._file.frames < 2**48 else None

    def blocks(self, rate: int, channels: int) -> Iterator[Floats]:
        from clients.media.mixing import Mixer

        mixer = Mixer(self.own_channels, self.rate)
        resampler = soxr.ResampleStream(self.rate, rate, channels, dtype="float32") if rate != self.rate else None
        read = 0
        while True:
            try:
                block = self._file.read(int(self.rate * _BLOCK_S), dtype="float32", always_2d=True)
            except self._error as error:
                reason = str(error).strip().rstrip(".")
                raise UnreadableAudio(f"it is cut off after {read / self.rate:.1f} s ({reason})") from None
            read += len(block)
            last = not len(block)
            if self.own_channels != channels:
                block = mixer.mix(block)[:, None]
            yield resampler.resample_chunk(block, last=last) if resampler is not None else block
            if last:
                break
        if not read:
            raise UnreadableAudio("it is empty")


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
