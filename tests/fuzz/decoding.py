"""Audio on the wire, from bytes: whatever it is and however it is cut, the samples are those of the whole."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np

from streaming_asr.core.audio import AudioDecoder
from streaming_asr.core.options import ChannelMode, Encoding, SessionOptions
from streaming_asr.core.wav_header import UnexpectedFormat
from streaming_asr.protocols.base64_audio import decode_base64

RATES = (8_000, 16_000, 44_100, 48_000)
MOST_BYTES = 20_000


def decode_audio(data: bytes) -> int:
    """Decode audio: a byte for the format, two for where it is cut, then the audio; returns the number of chunks.

    Raises:
        Exception: something does not hold.
    """
    head, body = data[:3].ljust(3, b"\0"), data[3:MOST_BYTES]
    channels = 1 + (head[0] >> 4 & 1)
    options = SessionOptions(
        encoding=tuple(Encoding)[head[0] & 3],
        sample_rate=RATES[head[0] >> 2 & 3],
        channels=channels,
        channel_mode=ChannelMode.SPLIT if head[0] & 32 else ChannelMode.MIX,
    )
    size = 1 + head[1] * (1 + head[2] % 32)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    cut, cut_error = _decoded(options, chunks)
    whole, whole_error = _decoded(options, [body])
    assert cut_error == whole_error, "whether it is taken for a file depends on how it is cut"
    if whole_error is None:
        assert cut.shape == whole.shape, "how long it is depends on how it is cut"
        assert np.allclose(cut, whole, atol=1e-4), "the samples depend on how it is cut"
    return len(chunks) + 1


def _decoded(options: SessionOptions, chunks: Sequence[bytes]) -> tuple[np.ndarray, type[Exception] | None]:
    decoder = AudioDecoder(options)
    pieces = [np.zeros((decoder.tracks, 0), np.float32)]
    try:
        pieces += [decoder.decode(chunk) for chunk in chunks]
    except UnexpectedFormat as error:
        return pieces[0], type(error)
    pieces.append(decoder.flush())
    samples = np.concatenate(pieces, axis=1)
    assert np.isfinite(samples).all(), "not a number"
    # A resampler overshoots at edges, by less than an octave.
    assert not samples.size or np.abs(samples).max() <= 2.0, "too loud"
    return samples, None


def decode_text(data: bytes) -> int:
    """Decode base64 in all forms that clients send; returns 1.

    Raises:
        Exception: something does not hold.
    """
    text = data.decode("latin-1")
    try:
        decoded = decode_base64(text)
    except ValueError:
        decoded = None
    try:
        strict = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return 1
    assert decoded == strict, "what is right was not decoded, or otherwise"
    return 1


def _wav(rate: int, channels: int = 1, tag: int = 1, bits: int = 16, more: bytes = b"") -> bytes:
    frame = channels * bits // 8
    content = b"".join(
        number.to_bytes(size, "little")
        for number, size in ((tag, 2), (channels, 2), (rate, 4), (rate * frame, 4), (frame, 2), (bits, 2))
    )
    return b"RIFF\x24\0\0\0WAVE" + more + b"fmt \x10\0\0\0" + content + b"data\0\1\0\0"


_NOISE = np.random.default_rng(0).integers(-9000, 9000, 300).astype("<i2").tobytes()
AUDIO_SEEDS: Sequence[bytes] = (
    b"\x04\x10\x01" + _NOISE,
    b"\x00\x20\x00" + _NOISE,
    b"\x35\x07\x03" + np.array([0, 1, -1, np.nan, np.inf, 3e38], "<f4").tobytes() * 20,
    b"\x0a\x01\x00" + bytes(range(256)),
    b"\x17\x09\x00" + bytes(range(256)),
    b"\x04\x05\x01" + _NOISE[:33] + _wav(16_000) + _NOISE[:64] + _wav(16_000) + _NOISE[:31],
    b"\x04\x05\x01" + _wav(8_000) + _NOISE[:64],
    b"\x04\x05\x01" + _wav(16_000, more=b"LIST\4\0\0\0abcd") + _NOISE[:64],
    b"\x04\x40\x01" + b"OggS\0" + _NOISE[:64],
    b"\x04\x40\x01" + b"\0\0\0\x18ftypM4A " + _NOISE[:64],
    b"\x04\x40\x01" + b"ID3\4\0\0\0\0\0\7" + _NOISE[:64],
    b"\x04\x40\x01" + (b"\xff\xfb\x90\x00" + bytes(413)) * 4,
)
TEXT_SEEDS: Sequence[bytes] = (
    base64.b64encode(_NOISE[:64]),
    base64.urlsafe_b64encode(bytes(range(250, 256)) * 3),
    b"AAA",
    b"AA==AA==",
    b"data:audio/wav;base64,AAAA",
    b"AAAA\r\nAAAA ",
)
