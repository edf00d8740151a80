"""The child process: decodes one recording and ends. Run as ``python -m streaming_asr.engine.media.child``.

Standard input is a socket over which the recording comes as a descriptor, with the job as JSON. So the child can be
started before there is a recording. Given a job as its argument, standard input is the recording itself. The descriptor
of a recording that is still being made is a pipe of `messages`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.engine.media import messages
from streaming_asr.engine.media.audio import open_media, read_audio
from streaming_asr.engine.media.limits import (
    LIVE_MEMORY_BYTES,
    MEMORY_BYTES,
    end_with_parent,
    leave_signals_to_parent,
    limit_process,
)
from streaming_asr.engine.media.live_child import LiveDecoding, TooLong
from streaming_asr.engine.media.reader import UnreadableMedia
from streaming_asr.engine.media.repairs import Repair

_JOB_BYTES = 4096


def main() -> None:
    """Decode what standard input holds or hands over."""
    leave_signals_to_parent()
    end_with_parent()
    if len(sys.argv) > 1:
        job, source = json.loads(sys.argv[1]), 0
    else:
        handed_over = _handed_over()
        if handed_over is None:
            return
        job, source = handed_over
    live = "channels" in job
    limit_process(job["cpu_s"], LIVE_MEMORY_BYTES if live else MEMORY_BYTES)
    try:
        if live:
            LiveDecoding(source, job["channels"], _write).run()
        else:
            _decode(source, job)
        _write(messages.packed(messages.END))
    except TooLong as error:
        _write(messages.packed_json(messages.ERROR, code=messages.TOO_LONG, message=str(error)))
    except UnreadableMedia as error:
        _write(messages.packed_json(messages.ERROR, code=messages.UNREADABLE, message=str(error)))
    except MemoryError:
        reason = "decoding it takes more memory than is allowed"
        _write(messages.packed_json(messages.ERROR, code=messages.UNREADABLE, message=reason))
    except BrokenPipeError:
        # The parent is not interested any more.
        return


def _handed_over() -> tuple[dict[str, Any], int] | None:
    """The job and the recording's descriptor; None if the parent ended before there was one."""
    with socket.socket(fileno=0) as parent:
        job, descriptors, _, _ = socket.recv_fds(parent, _JOB_BYTES, 1)
    return (json.loads(job), descriptors[0]) if job and descriptors else None


def _decode(source: int, job: dict[str, Any]) -> None:
    reader = open_media(source)
    if reader.stated_s is not None and reader.stated_s > job["max_s"]:
        raise TooLong(_too_long(job))
    _write(messages.packed_json(messages.INFO, duration_s=reader.duration_s))
    left = round(job["max_s"] * SAMPLE_RATE)
    for item in read_audio(reader):
        if isinstance(item, Repair):
            _write(messages.packed_json(messages.WARNING, code=item.code, message=item.message))
            continue
        left -= len(item)
        if left < 0:
            raise TooLong(_too_long(job))
        _write(messages.packed(messages.AUDIO, item.astype(np.float32, copy=False).tobytes()))


def _too_long(job: dict[str, Any]) -> str:
    if job["expands"]:
        return f"its {job['size']} bytes are more than {job['max_s']:.0f} s of audio, which no recording is"
    return f"it is longer than the {job['max_s']:g} s that are allowed"


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main()
