# A copy of streaming_asr/engine/media/reader.py, by `python -m tests.support.copies`: clients stand alone.
"""A recording of any format that FFmpeg reads -> its samples, packet by packet.

A packet that can't be decoded costs its own length, not what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray

from clients.media.parts import Readable, parts_of
from clients.media.repairs import (
    CUT_OFF,
    DAMAGED,
    GAP,
    NOT_FINITE,
    OVERLAP,
    OVERSCALED,
    SILENT_TRACK,
    UNREAD,
    Repair,
    Repairs,
)
from clients.media.timeline import TOLERANCE_S, Timeline

FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv", "loas", "matroska",
    "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nut", "ogg", "rm", "tak", "tta", "voc", "w64",
    "wav", "wv",
)  # fmt: skip
"""FFmpeg's names of the containers that are read. None of them opens another file or address, as playlists and
FFmpeg's own concatenation format do: an upload of 36 bytes that names itself would take all file descriptors."""
MIN_RATE, MAX_RATE = 1_000, 384_000
"""Hz."""
MAX_CHANNELS = 64
BLOCK_S = 0.25
"""Audio that is returned at once, seconds: frames of some milliseconds are put together."""

_TIMED = ("asf", "flac", "flv", "matroska", "mov", "mpeg", "mpegts", "mxf", "nut", "ogg")
"""Formats with timestamps. In the others FFmpeg makes them up from the first frame's rate, or from the bit rate."""
_STARTS = ("avi",)
"""Formats without timestamps that say when their audio begins."""
_FROM_ZERO = ("avi", "matroska", "mov")
"""Formats whose time begins at 0; in the others, it may begin anywhere."""
_SIZED = ("flac", "matroska", "mov")
"""Formats that state their own length, which is right unless they were cut."""
_EXACT_S = 0.01
"""Tolerance where timestamps are counts of samples."""
_MAX_ERRORS = 1_000
"""Errors of a container one after the other; then nothing more is expected from it."""
_MAX_LOST_S = 1.0
"""Longest silence for one packet that can't be decoded."""
_MAX_MISSING_S = 60.0
"""The same, of a format without timestamps: for all frames whose bytes the packet has."""
_CUT_S = 1.0
"""A recording this much shorter than it states was cut off."""
_NOT_AUDIO = (b"Xing", b"Info", b"VBRI", b"LAME", b"ID3", b"TAG", b"APETAGEX", b"fLaC", b"RIFF")
"""In packets at the joints of files that were put together, which have no sound."""
_HEAD_BYTES = 8
_CHECKED = ("flac", "tta")
"""Codecs with checksums that FFmpeg only looks at if it is asked to; otherwise a damaged frame is decoded to noise."""
_OVERSCALED = 10.0
"""Float samples above this are of another scale, such as that of 16-bit integers. Loud ones stay below."""
_SILENT = 1e-4
"""Samples up to this are silence: below what 14 bits show."""
_PLANAR = {"u8p": "u1", "s16p": "i2", "s32p": "i4", "s64p": "i8", "fltp": "f4", "dblp": "f8"}
"""FFmpeg's planar formats -> types of their samples."""
_FULL_SCALE = {"u1": 2**7, "i2": 2**15, "i4": 2**31, "i8": 2**63}
"""Of integer samples, by their type."""

Frames = NDArray[np.float32]
"""Samples of all channels, shape ``[n, channels]``."""


class UnreadableMedia(Exception):
    """The recording can't be opened, or has no audio that can be decoded. The message is for the user."""


class UnknownFormat(UnreadableMedia):
    """FFmpeg does not know the format, or may not read it."""

    def __init__(self) -> None:
        super().__init__("not a recording in a format that can be read")


@dataclass(frozen=True)
class Block:
    """Decoded audio; the next block may have another rate and other channels."""

    frames: Frames
    rate: int
    """Hz."""


class MediaReader:
    """Decodes the first audio track that has a decoder and, if it is in a file, is not silent throughout.

    Args:
        file: at its beginning. If it can't seek, it needs `peek`.

    Raises:
        UnreadableMedia: it is not a recording in a format that can be read, or has no audio track that can be decoded.
    """

    _demuxer: str | None = None
    """FFmpeg's name of the format; None: FFmpeg finds out."""
    _options: dict[str, str] = {}  # noqa: RUF012 - it is replaced, not changed
    """FFmpeg's, for opening."""
    _block_s = BLOCK_S
    _track = 0
    """Which of the tracks that have a decoder is read."""

    def __init__(self, file: IO[bytes]) -> None:
        av.logging.set_level(None)
        head = _head(file)
        if not head:
            raise UnreadableMedia("it is empty")
        if head.startswith(b"RIFX"):
            # FFmpeg reads its samples in the wrong byte order: noise.
            raise UnreadableMedia("it is a big-endian WAV (RIFX), which is not read")
        self._parts = self._split(file)
        first = next(self._parts)
        try:
            self._open(first)
        except UnknownFormat:
            if head[4:8] == b"ftyp":
                raise UnreadableMedia(
                    "it is an MP4 whose index is missing or damaged, as when it was cut off"
                ) from None
            raise
        duration = self._container.duration
        self.duration_s = duration / av.time_base if duration and duration > 0 else None
        """Length as the container states or estimates it; None where it does not."""
        self.stated_s = self._stated_s()
        """Length of the audio, of those formats that know it."""
        self.rate: int = self._stream.codec_context.sample_rate or 0
        """Hz, of the first audio; 0 if the container does not say."""
        self.channels: int = self._stream.codec_context.channels or 1
        """Of the first audio."""
        self._restart: Any = first if file.seekable() and hasattr(first, "seek") else None
        """The first part, if it can be read again."""
        self._timeline = self._new_timeline()
        self._repairs = Repairs()
        self._out: list[Block] = []
        self._pending: list[Frames] = []
        """Frames that will be one block."""
        self._pending_s = 0.0
        self._rate = 0
        self._timed = self._format in _TIMED
        self._lost_s = 0.0
        """Length of packets that could not be decoded since the last frame."""
        self._good_packets = self._good_bytes = 0
        """Packets that were decoded, and their size."""
        self._failure = ""
        """Why something could not be decoded."""
        self._began = False
        self._overscaled = False
        self._failed = False
        """Whether the container failed since the last packet."""

    def read(self) -> Iterator[Block | Repair]:
        """Yield the audio, and what was repaired.

        Raises:
            UnreadableMedia: there was no audio that could be decoded.
        """
        try:
            yield from self._read_tracks()
            missing_s = (self.stated_s or 0.0) - self._timeline.time_s
            if self._began and missing_s > _CUT_S:
                self._repairs.note(CUT_OFF, self._timeline.position_s, missing_s)
            elif self._began and self._overruns:
                # FFmpeg skips boxes of an MP4 by their sizes, and ends without an error where one is damaged.
                self._repairs.note(UNREAD, self._timeline.position_s, 0.0)
            for part in self._parts:
                if self._open_next(part):
                    yield from self._read_part()
            yield from self._repairs.take(None)
        finally:
            self._container.close()
        if not self._began:
            raise UnreadableMedia(f"its audio can't be decoded ({self._failure})" if self._failure else "it is empty")

    def _read_tracks(self) -> Iterator[Block | Repair]:
        """Read the first part: of several tracks, the first that is not silent from beginning to end."""
        while True:
            silence: list[Block] = []
            track = self._read_part()
            for item in track:
                if not isinstance(item, Block):
                    yield item
                    continue
                if self._last_track or np.abs(item.frames).max(initial=0) > _SILENT:
                    yield from silence
                    yield item
                    yield from track
                    return
                # Of no size: a view of one zero.
                silence.append(Block(np.broadcast_to(np.float32(0), item.frames.shape), item.rate))
            if self._last_track or not silence:
                yield from silence
                return
            self._repairs.note(SILENT_TRACK, 0.0, 0.0)
            self._open_next_track()

    @property
    def _last_track(self) -> bool:
        """Whether no further track could be read instead of this one."""
        return self._restart is None or self._track + 1 >= len(_tracks(self._container))

    def _open_next_track(self) -> None:
        self._track += 1
        self._container.close()
        self._restart.seek(0)
        self._open(self._restart)
        self._timeline = self._new_timeline()
        self._rate = 0
        self._began = False

    def _split(self, file: IO[bytes]) -> Iterator[Readable]:
        return parts_of(file)

    def _new_timeline(self) -> Timeline:
        return Timeline(self._zero_s(), _EXACT_S if self._format == "flac" else TOLERANCE_S)

    def _open(self, part: Readable) -> None:
        self._overruns = getattr(part, "overruns", False)
        # Nothing else may be opened, whatever a file names: no protocol is allowed.
        options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none", **self._options}
        try:
            self._container = av.open(
                part,
                mode="r",
                format=self._demuxer,
                options=options,
                metadata_errors="replace",
                buffer_size=2**16,
            )
        except (av.FFmpegError, ValueError):
            raise UnknownFormat() from None
        try:
            self._stream = _audio_track(self._container, self._track)
        except UnreadableMedia:
            self._container.close()
            raise
        names = self._container.format.name.split(",")
        self._format = next((name for name in FORMATS if name in names), names[0])

    def _open_next(self, part: Readable) -> bool:
        """Open a further part, whose time goes on where the last part ends."""
        self._container.close()
        try:
            self._open(part)
        except UnreadableMedia:
            self._repairs.note(UNREAD, self._timeline.position_s, 0.0)
            return False
        position_s, self._timeline = self._timeline.position_s, Timeline(None)
        self._timeline.advance(position_s)
        return True

    def _zero_s(self) -> float | None:
        if self._format in _FROM_ZERO:
            return 0.0
        start = self._container.start_time
        return None if start is None else start / av.time_base

    def _stated_s(self) -> float | None:
        if self._format not in _SIZED:
            return None
        if self._stream.duration:
            return float(((self._stream.start_time or 0) + self._stream.duration) * self._stream.time_base)
        return self.duration_s if len(self._container.streams) == 1 else None

    def _read_part(self) -> Iterator[Block | Repair]:
        for packet in self._packets():
            self._decode(packet)
            yield from self._taken()
        self._end_lost()
        self._flush()
        if self._failed and self._began:
            self._repairs.note(UNREAD, self._timeline.position_s, 0.0)
        yield from self._taken()

    def _packets(self) -> Iterator[Any]:
        """The track's packets, at the end an empty one. An error of the container costs what it can't read."""
        errors = 0
        self._failed = False
        while errors < _MAX_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    errors = 0
                    self._failed = self._failed and not packet.size
                    yield packet
                return
            except av.EOFError:
                return
            except av.FFmpegError as error:
                self._failure = self._failure or _reason(error)
                errors += 1
                self._failed = True

    def _decode(self, packet: Any) -> None:
        try:
            frames = packet.decode()
        except av.EOFError:
            return
        except (av.FFmpegError, ValueError) as error:
            if packet.size and not any(mark in bytes(packet)[:64] for mark in _NOT_AUDIO):
                self._failure = self._failure or _reason(error)
                self._lost_s += self._length_s(packet)
            return
        self._good_packets += 1
        self._good_bytes += packet.size
        for frame in frames:
            if frame.samples:
                self._take(frame)

    def _length_s(self, packet: Any) -> float:
        """How much audio a packet has that can't be decoded. Without timestamps it has all bytes up to the next frame
        that is whole, so that its size says how many frames are missing.
        """
        length_s = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else 0.0
        length_s = max(0.0, min(length_s, _MAX_LOST_S))
        if self._timed or not self._good_bytes:
            return length_s
        frames: int = max(1, round(packet.size * self._good_packets / self._good_bytes))
        return min(length_s * frames, _MAX_MISSING_S)

    def _take(self, frame: Any) -> None:
        """Put a frame in its place."""
        rate = frame.sample_rate
        try:
            samples = self._usable(_floats(frame))
            check_shape(rate, samples.shape[1])
        except (UnreadableMedia, ValueError) as error:
            if not self._began:
                raise UnreadableMedia(str(error)) from None
            self._lost_s += min(frame.samples / max(rate, MIN_RATE), _MAX_LOST_S)
            return
        if rate != self._rate or (self._pending and samples.shape[1] != self._pending[0].shape[1]):
            self._flush()
            # The timestamps of FLAC are counted in samples of the first rate.
            self._timed = self._timed and not (self._format == "flac" and self._rate)
            self._rate = rate
        silence_s, drop_s = self._place(frame, len(samples) / rate)
        if silence_s:
            self._flush()
            self._out.append(Block(np.broadcast_to(np.float32(0), (round(silence_s * rate), samples.shape[1])), rate))
        if drop_s:
            samples = samples[round(drop_s * rate) :]
        self._began = True
        self._pending.append(samples)
        self._pending_s += len(samples) / rate
        if self._pending_s >= self._block_s:
            self._flush()

    def _usable(self, samples: Frames) -> Frames:
        """The samples; those that are not numbers become 0."""
        if not np.isfinite(samples).all():
            samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
            self._repairs.note(NOT_FINITE, self._timeline.position_s, 0.0)
        if not self._overscaled and self._stream.codec_context.name.startswith("pcm_f"):
            self._overscaled = bool(np.abs(samples).max() > _OVERSCALED)
            if self._overscaled:
                self._repairs.note(OVERSCALED, self._timeline.position_s, 0.0)
        return samples

    def _place(self, frame: Any, length_s: float) -> tuple[float, float]:
        """Seconds of silence before a frame, and seconds to drop from its beginning."""
        at_s, lost_s = self._timeline.position_s, self._lost_s
        self._lost_s = 0.0
        timed = self._timed or (not self._began and self._format in _STARTS)
        if not timed or frame.time is None:
            self._timeline.advance(lost_s + length_s)
            silence_s, drop_s = lost_s, 0.0
        else:
            placement = self._timeline.place(frame.time, length_s)
            silence_s, drop_s = placement.silence_s, placement.drop_s
        if lost_s:
            self._repairs.note(DAMAGED, at_s, max(lost_s, silence_s))
        elif silence_s and self._began:
            # FFmpeg leaves out frames of FLAC that are damaged without a word.
            self._repairs.note(DAMAGED if self._format == "flac" else GAP, at_s, silence_s)
        if drop_s:
            self._repairs.note(OVERLAP, at_s, drop_s)
        return silence_s, drop_s

    def _end_lost(self) -> None:
        """Note what could not be decoded at the end."""
        if self._lost_s and self._began:
            self._repairs.note(DAMAGED, self._timeline.position_s, self._lost_s)
        self._lost_s = 0.0

    def _flush(self) -> None:
        """Make a block of the pending frames."""
        if self._pending:
            self._out.append(Block(np.concatenate(self._pending), self._rate))
        self._pending = []
        self._pending_s = 0.0

    def _taken(self) -> Iterator[Block | Repair]:
        """What is ready; silence in pieces."""
        out, self._out = self._out, []
        for block in out:
            size = round(block.rate * 2 * BLOCK_S)
            for start in range(0, len(block.frames), size):
                yield Block(block.frames[start : start + size], block.rate)
        yield from self._repairs.take(self._timeline.position_s)


def _head(file: IO[bytes]) -> bytes:
    """How a file begins. It is at its beginning, and stays there."""
    if not file.seekable():
        return file.peek(_HEAD_BYTES)[:_HEAD_BYTES]  # type: ignore[attr-defined, no-any-return]
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    return head


def _tracks(container: Any) -> list[Any]:
    """The audio tracks that have a decoder."""
    return [track for track in container.streams.audio if track.codec_context is not None]


def _audio_track(container: Any, index: int) -> Any:
    tracks = _tracks(container)
    if not tracks:
        raise UnreadableMedia("no decoder is known for its audio" if container.streams.audio else "it has no audio")
    track = tracks[min(index, len(tracks) - 1)]
    if track.codec_context.name in _CHECKED:
        track.codec_context.options = {"err_detect": "crccheck+explode"}
    check_shape(track.codec_context.sample_rate or MIN_RATE, track.codec_context.channels or 1)
    return track


def check_shape(rate: int, channels: int) -> None:
    """Check the rate and the number of channels.

    Raises:
        UnreadableMedia: nobody records like that.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UnreadableMedia(f"its sample rate is {rate} Hz; {MIN_RATE} to {MAX_RATE} are read")
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnreadableMedia(f"it has {channels} channels; up to {MAX_CHANNELS} are read")


def _floats(frame: Any) -> Frames:
    """The samples of a frame, in -1..1 where they are integers."""
    if frame.format.is_planar:
        # Not by `to_ndarray`: of more than 8 channels, PyAV counts planes until it finds a null pointer, and reads
        # what lies behind the frame.
        kind = np.dtype(_PLANAR[frame.format.name])
        planes = frame.planes[: frame.layout.nb_channels]
        frames = np.stack([np.frombuffer(plane, kind, frame.samples) for plane in planes], axis=1)
    else:
        frames = frame.to_ndarray().reshape(frame.samples, -1)
    if frames.dtype.kind == "f":
        with np.errstate(over="ignore"):
            floats: Frames = frames.astype(np.float32)
        return floats
    full_scale = np.float32(_FULL_SCALE[frames.dtype.str[1:]])
    offset = full_scale if frames.dtype.kind == "u" else np.float32(0)
    return np.asarray((frames.astype(np.float32) - offset) / full_scale, np.float32)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
