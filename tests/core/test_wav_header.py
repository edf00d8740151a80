"""WAV headers inside raw audio."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_asr.core.audio import AudioDecoder
from streaming_asr.core.events import SessionWarning
from streaming_asr.core.options import ChannelMode, Encoding, SessionOptions
from streaming_asr.core.wav_header import LONGEST_HEADER, UnexpectedFormat
from tests.support.fakes import make_session

SAMPLES = np.random.default_rng(7).integers(-30_000, 30_000, 4_800, np.int16)
RAW = SAMPLES.tobytes()


def wav(samples: NDArray[np.int16] = SAMPLES, rate: int = 16_000, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=kind)
    return file.getvalue()


HEADER = wav()[: -len(RAW)]


def _with_chunk(name: bytes, content: bytes) -> bytes:
    """The header with another chunk before the data."""
    return HEADER[:-8] + name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) + HEADER[-8:]


def _decoded(data: bytes, cuts: list[int], **options: object) -> tuple[NDArray[np.float32], AudioDecoder]:
    decoder = AudioDecoder(SessionOptions(**options))  # type: ignore[arg-type]
    bounds = sorted(min(cut, len(data)) for cut in cuts)
    parts = [decoder.decode(data[a:b]) for a, b in zip([0, *bounds], [*bounds, len(data)], strict=True)]
    return np.concatenate([*parts, decoder.flush()], axis=1), decoder


AUDIO = _decoded(RAW, [])[0]

HEADERS = {
    "plain": HEADER,
    "of size 0": HEADER[:4] + bytes(4) + HEADER[8:-4] + bytes(4),
    "of a stream": HEADER[:4] + b"\xff" * 4 + HEADER[8:-4] + b"\xff" * 4,
    "with a comment of odd length": _with_chunk(b"LIST", b"INFOISFT\x05\x00\x00\x00Lavf\x00"),
    "RF64": wav(kind="RF64")[: -len(RAW)],
    "extensible": wav(kind="WAVEX")[: -len(RAW)],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(RAW) + 100), max_size=12))
def test_a_header_is_skipped_wherever_messages_are_cut(header: bytes, cuts: list[int]) -> None:
    decoded, decoder = _decoded(header + RAW, cuts)
    assert np.array_equal(decoded, AUDIO)
    assert (decoder.flaws.wav_headers, decoder.flaws.incomplete_bytes) == (1, 0)


def test_a_header_in_single_bytes_is_skipped() -> None:
    data = HEADERS["with a comment of odd length"] + RAW[:400]
    decoded, decoder = _decoded(data, list(range(len(data))))
    assert np.array_equal(decoded, AUDIO[:, :200])
    assert decoder.flaws.wav_headers == 1


def test_a_header_in_each_message_is_skipped() -> None:
    pieces = [HEADER + RAW[start : start + 960] for start in range(0, len(RAW), 960)]
    for data, cuts in ((b"".join(pieces), []), (b"".join(pieces), list(range(0, 20_000, len(pieces[0]))))):
        decoded, decoder = _decoded(data, cuts)
        assert np.array_equal(decoded, AUDIO)
        assert decoder.flaws.wav_headers == len(pieces)


def test_an_incomplete_sample_before_a_header_is_dropped() -> None:
    decoded, decoder = _decoded(RAW + b"\x01" + HEADER + RAW, [])
    assert np.array_equal(decoded, np.concatenate([AUDIO, AUDIO], axis=1))
    assert (decoder.flaws.wav_headers, decoder.flaws.incomplete_bytes) == (1, 1)


@pytest.mark.parametrize(
    ("encoding", "subtype"),
    [(Encoding.F32LE, "FLOAT"), (Encoding.MULAW, "ULAW"), (Encoding.ALAW, "ALAW"), (Encoding.S16LE, "PCM_16")],
)
def test_every_encoding_has_its_header(encoding: Encoding, subtype: str) -> None:
    data = wav(SAMPLES.reshape(-1, 2), 8_000, subtype)
    options = {"encoding": encoding, "sample_rate": 8_000, "channels": 2, "channel_mode": ChannelMode.SPLIT}
    decoded, decoder = _decoded(data, [50], **options)
    assert decoder.flaws.wav_headers == 1
    assert decoded.shape == (2, 4_800)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (wav(rate=48_000), "16-bit PCM, 48000 Hz, 1 channel, and the session is of s16le, 16000 Hz, 1 channel"),
        (wav(SAMPLES.reshape(-1, 2)), "16-bit PCM, 16000 Hz, 2 channels, and"),
        (wav(subtype="PCM_24"), "24-bit PCM, 16000 Hz"),
        (wav(subtype="FLOAT"), "32-bit float"),
        (wav(subtype="ULAW"), "8-bit \u00b5-law"),
        (wav(subtype="IMA_ADPCM"), "4-bit of format 17"),
        (HEADER[:12] + HEADER[-8:], "names no format"),
        (HEADER[:16] + b"\x04\x00\x00\x00" + bytes(4) + HEADER[-8:], "can't be read"),
        (_with_chunk(b"junk", bytes(LONGEST_HEADER)), "longer than"),
    ],
)
@pytest.mark.parametrize("cuts", [[], [10, 20, 30]])
def test_a_header_that_does_not_fit_is_an_error_that_names_both_formats(
    data: bytes, says: str, cuts: list[int]
) -> None:
    with pytest.raises(UnexpectedFormat) as error:
        _decoded(RAW[:100] + data, cuts)
    assert says in str(error.value)


@pytest.mark.parametrize("end", [b"R", b"RIFF", b"RIFF1234", b"RIFF1234WAV", b"RF6", b"RRIFF"])
def test_audio_that_looks_like_the_beginning_of_a_header_is_audio(end: bytes) -> None:
    end = bytes(len(end) % 2) + end
    decoded, decoder = _decoded(RAW + end, [len(RAW) + 2])
    assert np.array_equal(decoded[0, -len(end) // 2 :], np.frombuffer(end, "<i2").astype(np.float32) / 32768)
    assert not decoder.flaws
    goes_on, decoder = _decoded(RAW + end + RAW, [len(RAW) + len(end)])
    assert goes_on.shape[1] == len(RAW) + len(end) // 2
    assert not decoder.flaws


def test_a_header_without_its_end_is_dropped_at_the_end() -> None:
    decoded, decoder = _decoded(RAW + HEADER[:30], [])
    assert np.array_equal(decoded, AUDIO)
    assert decoder.flaws.wav_headers == 1


def test_a_session_warns_of_headers_once() -> None:
    header = wav(subtype="FLOAT")[: -4 * len(SAMPLES)]
    session = make_session()
    events = [event for _ in range(3) for event in session.receive(header + bytes(3200), 0.0)]
    (warning,) = [event for event in events if isinstance(event, SessionWarning)]
    assert (warning.code, warning.repair) == ("wav_header", True)
    assert session.audio_ms == 150
    with pytest.raises(UnexpectedFormat, match="48000"):
        session.receive(wav(rate=48_000, subtype="FLOAT"), 0.0)
