"""Files where raw audio was expected, recognized by how they begin.

Read as samples, a compressed file is noise without speech: the client would get no text, and no error either.
"""

from __future__ import annotations

from collections.abc import Callable

from streaming_asr.core.wav_header import UnexpectedFormat

HEAD_BYTES = 4096
"""Of a stream, in which a file must be recognized: room for three frames of MP3."""

_MAGIC = (
    (b"OggS\0", "an Ogg"),
    (b"fLaC", "a FLAC"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska"),
    (b"\x1f\x43\xb6\x75", "a WebM or Matroska"),
    (b"caff\0\1", "a CAF"),
    (b".snd\0\0", "an AU"),
    (b"#!AMR", "an AMR"),
    (b"wvpk", "a WavPack"),
    (b"FLV\1", "an FLV"),
    (b"RIFX", "a big-endian WAV"),
    (b"riff\x2e\x91\xcf\x11", "a Wave64"),
    (b"Creative Voice File", "a VOC"),
    (b"TTA1", "a TTA"),
    (b"nut/multimedia container", "a NUT"),
    (b".RMF\0\0", "a RealMedia"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA or ASF"),
)
_MP4_BOXES = (b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip")
_PACKETS = ((188, 0), (192, 4))
"""Size of a packet of MPEG-TS, and where its sync byte is: in a stream, and on a Blu-ray disc."""
_SYNC = 0x47
_FRAMES = 3
"""Frames of MP3 or AAC that must follow each other: their sync word of 11 or 12 bits is in raw audio, too."""
_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Of layer III, by index: of MPEG-1, and of MPEG-2 and 2.5 (ISO/IEC 11172-3 and 13818-3, section 2.4.2.3)."""


def container_of(head: bytes) -> str | None:
    """The kind of file that begins like this, with its article; None for raw audio, or if the head is too short.

    WAV is not recognized: its header is skipped, and its samples are raw audio; see `wav_header`.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if len(head) >= 10 and head[:3] == b"ID3" and head[3] in (2, 3, 4) and max(head[6:10]) < 0x80:
        return "an MP3"
    if head[4:8] in _MP4_BOXES:
        return "an MP4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "an AVI"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "an AIFF"
    for size, at in _PACKETS:
        if len(head) > 3 * size + at and all(byte == _SYNC for byte in head[at : 4 * size : size]):
            return "an MPEG-TS"
    if head[:4] == b"\0\0\1\xba" and len(head) > 4 and (head[4] & 0xC4 == 0x44 or head[4] & 0xF0 == 0x20):
        return "an MPEG-PS"
    if _follow_each_other(head, _adts_size):
        return "an AAC"
    if _follow_each_other(head, _mp3_size):
        return "an MP3"
    return None


class ContainerCheck:
    """Looks for a file at the beginning of a stream.

    Args:
        expected: the session's format, for the message.
    """

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._head = bytearray()

    def check(self, data: bytes | memoryview) -> None:
        """Check the next bytes of the stream.

        Raises:
            UnexpectedFormat: the stream is a file.
        """
        if len(self._head) >= HEAD_BYTES:
            return
        self._head += data[: HEAD_BYTES - len(self._head)]
        name = container_of(bytes(self._head))
        if name is not None:
            raise UnexpectedFormat(
                f"The audio is {name} file, and the session is of {self._expected}; decode it to raw audio before "
                "it is sent"
            )


def _follow_each_other(head: bytes, size_of: Callable[[bytes], int]) -> bool:
    """Whether frames follow each other, of the same kind, from the first byte on."""
    at = 0
    for _ in range(_FRAMES):
        header = head[at : at + 6]
        size = size_of(header)
        if size == 0 or header[1] != head[1] or (header[2] ^ head[2]) & 0x0C:
            return False
        at += size
    return True


def _adts_size(header: bytes) -> int:
    """Bytes of a frame of AAC with its header (ISO/IEC 13818-7, section 6.2); 0 if it is none."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or (header[2] >> 2 & 0x0F) > 12:
        return 0
    size = (header[3] & 0x03) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else 0


def _mp3_size(header: bytes) -> int:
    """Bytes of a frame of MP3 with its header; 0 if it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bit_rate, sample_rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or not 0 < bit_rate < 15 or sample_rate == 3:
        return 0
    first = version == 3
    rate = _MP3_RATES[sample_rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = _MP3_KBITS[0 if first else 1][bit_rate] * 1000
    return (144 if first else 72) * bits // rate + (header[2] >> 1 & 1)
