"""Wire bytes -> 16 kHz mono float32, as a stream: chunks of any size give the samples that the whole file would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from streaming_asr.core.containers import ContainerCheck
from streaming_asr.core.mixing import Mixer
from streaming_asr.core.options import ChannelMode, Encoding, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.wav_header import WavHeaderFilter, describe_format

_BYTES_PER_SAMPLE = {Encoding.S16LE: 2, Encoding.F32LE: 4, Encoding.MULAW: 1, Encoding.ALAW: 1}


def _mulaw_table() -> Audio:
    """Linear value of each µ-law code, shape ``[256]``, -1..1 (ITU-T G.711)."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Audio:
    """Linear value of each A-law code, shape ``[256]``, -1..1 (ITU-T G.711)."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    segment = (code & 0x70) >> 4
    mantissa = (code & 0x0F) << 4
    magnitude = np.where(segment == 0, mantissa + 8, mantissa + 0x108 << np.maximum(segment - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_COMPANDED = {Encoding.MULAW: _mulaw_table(), Encoding.ALAW: _alaw_table()}


@dataclass(slots=True)
class Flaws:
    """What was wrong with the samples so far; all of it was repaired."""

    not_finite: int = 0
    """float samples that were NaN or infinite, replaced by 0."""
    clipped: int = 0
    """float samples outside -1..1, clipped."""
    incomplete_bytes: int = 0
    """Bytes at the end of a buffer or of the stream that are less than a sample of every channel, dropped."""
    wav_headers: int = 0
    """WAV headers in the audio, taken out."""

    def __bool__(self) -> bool:
        return bool(self.not_finite or self.clipped or self.incomplete_bytes or self.wav_headers)


class AudioDecoder:
    """Decodes one stream: bytes in, ``[tracks, n]`` float32 at 16 kHz out.

    A sample may be spread over two chunks. There is one track, or one per channel with `ChannelMode.SPLIT`.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._encoding = Encoding.S16LE if options.encoding is Encoding.AUTO else options.encoding
        self._channels = options.channels
        self._rate = options.sample_rate
        self.tracks = options.channels if options.channel_mode is ChannelMode.SPLIT else 1
        self.bytes_per_frame = _BYTES_PER_SAMPLE[self._encoding] * options.channels
        """Bytes of one sample of every channel."""
        self.bytes_per_second = self.bytes_per_frame * options.sample_rate
        self.flaws = Flaws()
        self._headers = WavHeaderFilter(self._encoding, options.sample_rate, options.channels)
        own_format = describe_format(self._encoding.value, options.sample_rate, options.channels)
        self._containers = ContainerCheck(own_format)
        self._carry = b""
        self._mixer = Mixer(options.channels, options.sample_rate)
        self._resampler = self._new_resampler()

    def decode(self, data: bytes | memoryview) -> NDArray[np.float32]:
        """Decode one chunk. The resampler keeps its last samples until the next call.

        Raises:
            UnexpectedFormat: there is a WAV header of another format in it, or the stream is a file.
        """
        self._containers.check(data)
        pieces = self._headers.split(data)
        if len(pieces) == 1:
            return self._decode(pieces[0])
        self.flaws.wav_headers = self._headers.count
        decoded = []
        for piece in pieces[:-1]:
            decoded.append(self._decode(piece))
            # A header is between whole samples: what is less than one before it is its file's incomplete end.
            self._drop_carry()
        return np.concatenate([*decoded, self._decode(pieces[-1])], axis=1)

    def _decode(self, data: bytes | memoryview) -> NDArray[np.float32]:
        if self._carry:
            data = self._carry + bytes(data)
        whole = len(data) - len(data) % self.bytes_per_frame
        self._carry = bytes(data[whole:])
        return self._resample(self._samples(data[:whole]), last=False)

    def flush(self) -> NDArray[np.float32]:
        """End a buffer, or the stream; returns the samples that the resampler kept.

        An incomplete last sample is dropped and counted: kept, it would shift every sample after it.
        Decoding can go on afterwards, as a new stream joined to the old.
        """
        kept = self._decode(self._headers.flush())
        self.flaws.wav_headers = self._headers.count
        self._drop_carry()
        rest = self._resample(np.zeros((0, self.tracks), np.float32), last=True)
        self._resampler = self._new_resampler()
        return np.concatenate([kept, rest], axis=1)

    def _drop_carry(self) -> None:
        self.flaws.incomplete_bytes += len(self._carry)
        self._carry = b""

    def _samples(self, data: bytes | memoryview) -> NDArray[np.float32]:
        """Shape ``[n, tracks]`` at the wire's rate."""
        table = _COMPANDED.get(self._encoding)
        if table is not None:
            samples = table[np.frombuffer(data, np.uint8)]
        elif self._encoding is Encoding.S16LE:
            samples = np.frombuffer(data, "<i2").astype(np.float32)
            samples *= np.float32(1 / 32768)
        else:
            samples = self._repaired(np.frombuffer(data, "<f4").astype(np.float32))
        frames: Audio = samples.reshape(-1, self._channels)
        if self.tracks < self._channels:
            frames = self._mixer.mix(frames)[:, None]
        return frames

    def _repaired(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        finite = np.isfinite(samples)
        if not finite.all():
            self.flaws.not_finite += int(samples.size - np.count_nonzero(finite))
            samples = np.where(finite, samples, np.float32(0))
        outside = int(np.count_nonzero(np.abs(samples) > 1))
        if outside:
            self.flaws.clipped += outside
            samples = samples.clip(-1, 1)
        return samples

    def _new_resampler(self) -> soxr.ResampleStream | None:
        if self._rate == SAMPLE_RATE:
            return None
        return soxr.ResampleStream(self._rate, SAMPLE_RATE, self.tracks, dtype="float32", quality="HQ")

    def _resample(self, frames: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._resampler is not None:
            resampled: NDArray[np.float32] = self._resampler.resample_chunk(frames, last=last)
            frames = resampled.reshape(-1, self.tracks)
        return frames.reshape(1, -1) if self.tracks == 1 else np.ascontiguousarray(frames.T)
