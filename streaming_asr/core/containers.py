"""Files where raw audio was expected, recognized by how they begin.

Read as samples, a compressed file is noise without speech: the client would get no text, and no error either.
"""

from __future__ import annotations

from collections.abc import Callable

from streaming_asr.core.wav_header import UnexpectedFormat

HEAD_BYTES = 4096
"""Of a stream, in which a file must be recognized: room for three frames of MP3, or two of AC-3."""

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
    (b"\x7f\xfe\x80\x01", "a DTS"),
    (b"MAC \x8c\x0f\0\0", "a Monkey's Audio"),
    (b"MAC \x96\x0f\0\0", "a Monkey's Audio"),
    (b"MPCK", "a Musepack"),
    (b"tBaK", "a TAK"),
    (b"ADIF", "an AAC"),
    (b"NIST_1A\n", "a NIST SPHERE"),
)
_MP4_BOXES = (b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip")
_PACKETS = ((188, 0), (192, 4))
"""Size of a packet of MPEG-TS, and where its sync byte is: in a stream, and on a Blu-ray disc."""
_SYNC = 0x47
_FRAMES = 3
"""Frames of MPEG audio that must follow each other: their sync word of 11 or 12 bits is in raw audio, too."""
_AC3_FRAMES = 2
"""Of AC-3, whose sync word has 16 bits and whose frames are longer."""
_MPEG_RATES = (44_100, 48_000, 32_000)
_MPEG_KBITS = {
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By index, of MPEG-1 or not, and of layer II and III (ISO/IEC 11172-3 and 13818-3, section 2.4.2.3)."""
_AC3_RATES = (48_000, 44_100, 32_000)
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
"""By half the index (ATSC A/52, table 5.18)."""


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
    return next((name for size_of, same, count, name in _STREAMS if _follow(head, size_of, same, count) == count), None)


def is_file(head: bytes) -> bool:
    """Whether a stream that begins like this is a file, WAV included."""
    return container_of(head) is not None or (head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE")


def may_be_file(head: bytes) -> bool:
    """Whether more of a stream that begins like this may show that it is a file."""
    if len(head) >= HEAD_BYTES or is_file(head):
        return False
    if len(head) < 12 or any(magic.startswith(head) for magic, _ in _MAGIC):
        return True
    if any(len(head) > at and head[at] == _SYNC and len(head) <= 3 * size + at for size, at in _PACKETS):
        return True
    return any(_follow(head, size_of, same, count, cut=True) for size_of, same, count, _ in _STREAMS)


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


def _follow(
    head: bytes, size_of: Callable[[bytes], int], same: tuple[int, ...], count: int, *, cut: bool = False
) -> int:
    """How many frames follow each other from the first byte on, up to a number; none if fewer than this do.

    Args:
        size_of: the size of a frame with a header, bytes; 0 if it is not one.
        same: masks of the first bytes, in which the headers agree.
        cut: whether a frame that begins behind the head's end counts as one.
    """
    at = 0
    for _ in range(count):
        header = head[at : at + _HEADER_BYTES]
        if cut and len(header) < _HEADER_BYTES:
            return count
        size = size_of(header) if len(header) == _HEADER_BYTES else 0
        if size == 0 or any((one ^ other) & mask for one, other, mask in zip(header, head, same, strict=False)):
            return 0
        at += size
    return count


def _adts_size(header: bytes) -> int:
    """Of AAC (ISO/IEC 13818-7, section 6.2)."""
    if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or (header[2] >> 2 & 0x0F) > 12:
        return 0
    size = (header[3] & 0x03) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else 0


def _mp3_size(header: bytes) -> int:
    return _mpeg_size(header, 3)


def _mp2_size(header: bytes) -> int:
    return _mpeg_size(header, 2)


def _mpeg_size(header: bytes, of_layer: int) -> int:
    """Of a layer of MPEG audio."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, sample_rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer != of_layer or not 0 < bit_rate < 15 or sample_rate == 3:
        return 0
    first = version == 3
    rate = _MPEG_RATES[sample_rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = _MPEG_KBITS[first, layer][bit_rate] * 1000
    return (144 if first or layer == 2 else 72) * bits // rate + (header[2] >> 1 & 1)


def _loas_size(header: bytes) -> int:
    """Of AAC as LOAS (ISO/IEC 14496-3, section 1.7.2)."""
    if header[0] != 0x56 or header[1] & 0xE0 != 0xE0:
        return 0
    return ((header[1] & 0x1F) << 8 | header[2]) + 3


def _ac3_size(header: bytes) -> int:
    """Of AC-3 and E-AC-3 (ATSC A/52, sections 5.3 and E.1.3)."""
    if header[:2] != b"\x0b\x77":
        return 0
    version = header[5] >> 3
    if 10 < version <= 16:
        return (((header[2] & 0x07) << 8 | header[3]) + 1) * 2
    rate, index = header[4] >> 6, header[4] & 0x3F
    if version > 10 or rate == 3 or index >= 2 * len(_AC3_KBITS):
        return 0
    words = _AC3_KBITS[index // 2] * 1000 * 1536 // (16 * _AC3_RATES[rate])
    return 2 * (words + (index % 2 if rate == 1 else 0))


_HEADER_BYTES = 6
_STREAMS: tuple[tuple[Callable[[bytes], int], tuple[int, ...], int, str], ...] = (
    (_adts_size, (0xFF, 0xFF, 0x0C), _FRAMES, "an AAC"),
    (_mp3_size, (0xFF, 0xFF, 0x0C), _FRAMES, "an MP3"),
    (_mp2_size, (0xFF, 0xFF, 0x0C), _FRAMES, "an MP2"),
    (_loas_size, (0xFF, 0xE0), _FRAMES, "an AAC"),
    (_ac3_size, (0xFF, 0xFF, 0, 0, 0xC0), _AC3_FRAMES, "an AC-3"),
)
"""Streams of frames without a header of the whole: the size of a frame, what its headers agree in, how many have to
follow each other, and the name."""
