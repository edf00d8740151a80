"""Audio files of any format that FFmpeg reads -> 16 kHz mono float32, piece by piece, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv", "loas", "matroska",
    "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nut", "ogg", "rm", "tak", "tta", "voc", "w64",
    "wav", "wv",
)  # fmt: skip
"""FFmpeg's names of the containers that are read. None of them opens another file or address, as playlists and
FFmpeg's own concatenation format do: an upload of 36 bytes that names itself would take all file descriptors."""


class UnreadableMedia(Exception):
    """The file is missing, or has no audio that can be decoded. The message is for the user."""


def duration_s(source: Path | IO[bytes]) -> float | None:
    """Length in seconds as the container gives it; None where it does not.

    Raises:
        UnreadableMedia: the file can't be read.
    """
    import av

    with _opened(source) as container:
        return container.duration / av.time_base if container.duration else None


def read_audio(source: Path | IO[bytes]) -> Iterator[Audio]:
    """Yield the first audio track in pieces of samples, each of shape ``[n]``.

    Raises:
        UnreadableMedia: the file can't be read. Of a file that breaks off, the audio before that is yielded.
    """
    import av

    with _opened(source) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        frames = container.decode(audio=0)
        decoded = False
        while True:
            try:
                frame = next(frames, None)
            except av.FFmpegError as error:
                if not decoded:
                    raise UnreadableMedia(f"{_name(source)}: its audio can't be decoded ({error})") from None
                frame = None
            for piece in resampler.resample(frame):
                decoded = True
                yield np.ascontiguousarray(piece.to_ndarray().reshape(-1), dtype=np.float32)
            if frame is None:
                return


def _opened(source: Path | IO[bytes]) -> av.container.InputContainer:  # type: ignore[name-defined]  # noqa: F821
    try:
        import av
    except ImportError:
        raise UnreadableMedia("reading audio files needs PyAV: pip install 'streaming-asr[local]'") from None
    # A name such as "concat:a|b" would otherwise be opened by the protocol that it seems to name.
    url = f"file:{source}" if isinstance(source, Path) else source
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    try:
        container = av.open(url, mode="r", options=options)
    except (av.FFmpegError, OSError) as error:
        # A missing file or permission has a name; of a wrong format FFmpeg says "invalid argument".
        reason = error.strerror if isinstance(error, OSError) else "not a recording in a format that is read"
        raise UnreadableMedia(f"{_name(source)}: {reason}") from None
    if not container.streams.audio:
        container.close()
        raise UnreadableMedia(f"{_name(source)}: it has no audio")
    return container


def _name(source: Path | IO[bytes]) -> str:
    return str(source) if isinstance(source, Path) else "the upload"
