"""Audio files of any format that FFmpeg reads -> 16 kHz mono float32, piece by piece, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio


class UnreadableMedia(Exception):
    """The file is missing, or holds no audio that can be decoded. The message is for the user."""


def duration_s(source: Path | IO[bytes]) -> float | None:
    """Length as the container says it, seconds; None where it does not.

    Raises:
        UnreadableMedia: see there.
    """
    import av

    with _opened(source) as container:
        return container.duration / av.time_base if container.duration else None


def read_audio(source: Path | IO[bytes]) -> Iterator[Audio]:
    """The first audio track in pieces, each of shape ``[n]``.

    Raises:
        UnreadableMedia: see there; a file that breaks off in the middle gives what came before.
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
    try:
        container = av.open(str(source) if isinstance(source, Path) else source, mode="r")
    except (av.FFmpegError, OSError) as error:
        raise UnreadableMedia(f"{_name(source)}: not an audio file that can be read ({error})") from None
    if not container.streams.audio:
        container.close()
        raise UnreadableMedia(f"{_name(source)}: it holds no audio")
    return container


def _name(source: Path | IO[bytes]) -> str:
    return str(source) if isinstance(source, Path) else "the upload"
