"""Files are recognized where raw audio was expected; raw audio is never taken for a file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies

from streaming_asr.core.containers import HEAD_BYTES, container_of, may_be_file
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.session import Session
from streaming_asr.core.wav_header import UnexpectedFormat
from streaming_asr.voice.detectors import make_detector
from tests.support.fakes import CAPABILITIES
from tests.support.media_files import clip, encoded

FILES = {
    ("mp3", "libmp3lame", 16_000): "an MP3",
    ("mp3", "libmp3lame", 44_100): "an MP3",
    ("adts", "aac", 44_100): "an AAC",
    ("mp4", "aac", 44_100): "an MP4",
    ("ogg", "libopus", 48_000): "an Ogg",
    ("webm", "libopus", 48_000): "a WebM or Matroska",
    ("flac", "flac", 16_000): "a FLAC",
    ("mpegts", "aac", 44_100): "an MPEG-TS",
    ("caf", "pcm_s16be", 16_000): "a CAF",
    ("aiff", "pcm_s16be", 16_000): "an AIFF",
    ("au", "pcm_s16be", 16_000): "an AU",
    ("asf", "aac", 44_100): "a WMA or ASF",
    ("avi", "pcm_s16le", 16_000): "an AVI",
    ("w64", "pcm_s16le", 16_000): "a Wave64",
    ("flv", "aac", 44_100): "an FLV",
    ("voc", "pcm_u8", 16_000): "a VOC",
    ("tta", "tta", 16_000): "a TTA",
    ("nut", "pcm_s16le", 16_000): "a NUT",
    ("mpeg", "mp2", 48_000): "an MPEG-PS",
    ("mp2", "mp2", 16_000): "an MP2",
    ("mp2", "mp2", 44_100): "an MP2",
    ("latm", "aac", 44_100): "an AAC",
    ("ac3", "ac3", 44_100): "an AC-3",
    ("ac3", "ac3", 48_000): "an AC-3",
    ("eac3", "eac3", 48_000): "an AC-3",
}


@pytest.mark.parametrize(("container", "codec", "rate"), FILES)
@pytest.mark.parametrize("size", [7, 3200])
def test_a_file_ends_the_session_with_an_error_that_names_both(
    container: str, codec: str, rate: int, size: int
) -> None:
    options = {"write_xing": "0", "id3v2_version": "0"} if container == "mp3" else {}
    file = encoded(container, codec, clip("a"), rate=rate, **options)
    session = Session("k", SessionOptions(), CAPABILITIES, make_detector)

    def send() -> None:
        for start in range(0, 2 * HEAD_BYTES, size):
            session.receive(file[start : start + size], start / 32_000)

    with pytest.raises(UnexpectedFormat) as caught:
        send()
    assert str(caught.value) == (
        f"The audio is {FILES[container, codec, rate]} file, and the session is of s16le, 16000 Hz, 1 channel; "
        "decode it to raw audio before it is sent"
    )


@pytest.mark.parametrize(("container", "codec", "rate"), FILES)
def test_the_beginning_of_a_file_may_be_one_until_it_is_recognized(container: str, codec: str, rate: int) -> None:
    options = {"write_xing": "0", "id3v2_version": "0"} if container == "mp3" else {}
    file = encoded(container, codec, clip("a"), rate=rate, **options)
    size = 1
    while container_of(file[:size]) is None:
        assert may_be_file(file[:size])
        size += 1
    assert not may_be_file(file[:size])


def test_speech_is_soon_known_to_be_none() -> None:
    raw = np.rint(clip("a") * 32767).astype("<i2").tobytes()
    assert not may_be_file(raw[:12])
    assert not may_be_file(bytes(12))


def test_fragments_of_mp4_and_mp3_with_a_tag_are_recognized() -> None:
    fragmented = encoded("mp4", "aac", clip("a"), movflags="frag_keyframe+empty_moov")
    assert container_of(fragmented[:1024]) == "an MP4"
    assert container_of(encoded("mp3", "libmp3lame", clip("a"))[:1024]) == "an MP3"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1f\x43\xb6\x75\x01" + bytes(60), "a WebM or Matroska"),
        (b"\0\0\0\x08wide\0\0\0\0mdat" + bytes(60), "an MP4"),
        (b"\0\0\0\x2csidx" + bytes(60), "an MP4"),
        (b"RIFX\0\0\1\0WAVEfmt " + bytes(60), "a big-endian WAV"),
        (b"".join(bytes([0, 0, 0, count]) + b"\x47" + bytes(187) for count in range(8)), "an MPEG-TS"),
        (b"\x7f\xfe\x80\x01" + bytes(60), "a DTS"),
        (b"NIST_1A\n   1024\n" + bytes(60), "a NIST SPHERE"),
        (b".RMF\0\0\0\x12" + bytes(60), "a RealMedia"),
    ],
)
def test_other_beginnings_of_files_are_recognized(head: bytes, name: str) -> None:
    assert container_of(head) == name


@pytest.mark.parametrize("encoding", [Encoding.S16LE, Encoding.F32LE, Encoding.MULAW, Encoding.ALAW])
def test_speech_and_its_pauses_are_not_taken_for_a_file(encoding: Encoding) -> None:
    samples = np.concatenate([clip("a"), np.zeros(4_000, np.float32), 0.002 * clip("b")])
    if encoding is Encoding.F32LE:
        raw = samples.tobytes()
    elif encoding is Encoding.S16LE:
        raw = np.rint(samples * 32767).astype("<i2").tobytes()
    else:
        raw = encoded("wav", {Encoding.MULAW: "pcm_mulaw", Encoding.ALAW: "pcm_alaw"}[encoding], samples)[100:]
    for start in range(0, len(raw) - HEAD_BYTES, 97):
        assert container_of(raw[start : start + HEAD_BYTES]) is None


@given(strategies.binary(max_size=64))
def test_no_short_beginning_fails(head: bytes) -> None:
    container_of(head)


@given(strategies.lists(strategies.sampled_from([0x00, 0x7E, 0x7F, 0xFB, 0xFD, 0xFE, 0xFF]), min_size=64, max_size=400))
def test_silence_in_mulaw_is_not_taken_for_a_file(samples: list[int]) -> None:
    assert container_of(bytes(samples) * 8) is None
