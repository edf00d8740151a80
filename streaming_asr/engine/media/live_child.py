"""In the child: decodes a file while it arrives, and sends its audio at once.

At a mark, all audio of what has arrived has to be sent, but FFmpeg keeps some of it: parsers wait for the next frame,
resamplers for the next samples, and only the end of a file makes them return it. So the process is forked: for the fork
the file ends at the mark. The audio that it sends is left out when this process decodes it.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.engine.media import messages
from streaming_asr.engine.media.audio import read_channels
from streaming_asr.engine.media.limits import allow_cpu, end_with_parent
from streaming_asr.engine.media.live_input import LiveInput
from streaming_asr.engine.media.live_reader import LiveReader
from streaming_asr.engine.media.reader import Frames, UnreadableMedia
from streaming_asr.engine.media.repairs import UNREAD, Repair, Repairs

CPU_S, CPU_PER_S = 20, 0.25
"""Processor time that a live file may take, seconds: at first, and for each second of its audio."""
EXPANDED_S, MIN_BITS_PER_S = 60, 200
"""A live file may give this much audio however small it is; beyond, it must have this many bits for each second."""
SEND_S = 0.25
"""Audio that is sent at once, seconds, although more could be decoded."""
_NO_AUDIO_BYTES = 1024
"""A file that ends before this may have no audio: its recorder was stopped at once."""
_COUNT = struct.Struct("<Q")


class TooLong(Exception):
    """There is more audio than is allowed. The message is for the user."""


class LiveDecoding:
    """Decodes one live file.

    Args:
        source: descriptor of the pipe.
        channels: of the audio that is sent.
        write: writes to the parent.
    """

    def __init__(self, source: int, channels: int, write: Callable[[bytes], None]) -> None:
        self._input = LiveInput(source, self._send, self._at_mark)
        self._channels = channels
        self._write = write
        self._pending: list[Frames] = []
        self._pending_frames = 0
        self._frames = 0
        """Decoded so far."""
        self._skip = 0
        """Frames to come that a fork has sent already."""
        self._marked_bytes = 0
        """Received when there was the last mark."""
        self._report: int | None = None
        """In a fork: where it writes how many frames it has sent."""
        self._sent = 0

    def run(self) -> None:
        """Decode all that comes.

        Raises:
            UnreadableMedia: it can't be decoded.
            TooLong: see there.
        """
        try:
            self._decode()
        except BaseException:
            if self._report is None:
                raise
        if self._report is not None:
            self._end_fork(self._report)

    def _decode(self) -> None:
        self._allow_cpu()
        try:
            for item in read_channels(LiveReader(self._input), self._channels):
                if isinstance(item, Repair):
                    self._warn(item)
                else:
                    self._take(item)
        except UnreadableMedia:
            # A stop before the first audio is not an error.
            if not self._input.ended or self._input.received_bytes > _NO_AUDIO_BYTES:
                raise
        self._send()
        self._pass_over_rest()

    def _take(self, frames: Frames) -> None:
        before, self._frames = self._frames, self._frames + len(frames)
        if self._frames // (10 * SAMPLE_RATE) > before // (10 * SAMPLE_RATE):
            self._allow_cpu()
        most_s = EXPANDED_S + self._input.received_bytes * 8 / MIN_BITS_PER_S
        if self._frames > most_s * SAMPLE_RATE:
            raise TooLong(f"its {self._input.received_bytes} bytes are more than {most_s:.0f} s of audio")
        skipped = min(self._skip, len(frames))
        self._skip -= skipped
        if skipped == len(frames):
            return
        self._pending.append(frames[skipped:])
        self._pending_frames += len(frames) - skipped
        if self._pending_frames >= SEND_S * SAMPLE_RATE:
            self._send()

    def _send(self) -> None:
        """Send the audio that is pending."""
        if not self._pending:
            return
        audio = np.concatenate(self._pending).astype(np.float32, copy=False)
        self._pending, self._pending_frames = [], 0
        self._sent += len(audio)
        size = messages.MAX_BYTES // (4 * self._channels)
        for start in range(0, len(audio), size):
            self._write(messages.packed(messages.AUDIO, audio[start : start + size].tobytes()))

    def _warn(self, repair: Repair) -> None:
        if self._report is None:
            self._write(messages.packed_json(messages.WARNING, code=repair.code, message=repair.message))

    def _pass_over_rest(self) -> None:
        """Read what comes behind the end of the file, to answer its marks."""
        lost = False
        while not self._input.ended:
            lost = bool(self._input.read()) or lost
        if lost:
            repairs = Repairs()
            repairs.note(UNREAD, self._frames / SAMPLE_RATE, 0.0)
            for repair in repairs.take(None):
                self._warn(repair)

    def _at_mark(self) -> bool:
        """Send all audio of what has arrived; returns whether this process is the fork for that."""
        self._send()
        if self._input.received_bytes > self._marked_bytes and hasattr(os, "fork"):
            self._marked_bytes = self._input.received_bytes
            reading, writing = os.pipe()
            fork = os.fork()
            if not fork:
                os.close(reading)
                end_with_parent()
                allow_cpu(CPU_S)
                self._report, self._sent = writing, 0
                return True
            os.close(writing)
            count = os.read(reading, _COUNT.size)
            os.close(reading)
            os.waitpid(fork, 0)
            self._skip += _COUNT.unpack(count)[0] if len(count) == _COUNT.size else 0
        self._write(messages.packed(messages.MARK))
        return False

    def _end_fork(self, report: int) -> None:
        with contextlib.suppress(OSError):
            os.write(report, _COUNT.pack(self._sent))
        os._exit(0)

    def _allow_cpu(self) -> None:
        """Allow more processor time, in proportion to the audio; for a time that has been used already, too."""
        if self._report is None:
            allow_cpu(round(CPU_S + self._frames / SAMPLE_RATE * CPU_PER_S))


def most_cpu_s(max_s: float) -> int:
    """Processor time of a live file with this much audio, seconds."""
    return round(CPU_S + max_s * CPU_PER_S)
