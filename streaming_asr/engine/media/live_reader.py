"""A file that arrives while it is recorded -> its samples, as soon as there are any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, cast

from streaming_asr.engine.media.live_input import LiveInput
from streaming_asr.engine.media.live_parts import Pcm, WavParts, demuxer_of, live_parts
from streaming_asr.engine.media.parts import Readable
from streaming_asr.engine.media.reader import Block, MediaReader, UnreadableMedia, check_shape
from streaming_asr.engine.media.repairs import Repair
from streaming_asr.engine.media.timeline import Timeline

MAX_HOLE_S = 10.0
"""A longer hole is closed: its silence would be late."""
_HEAD_BYTES = 12


class LiveReader(MediaReader):
    """As `MediaReader`, of a file whose time begins with its first audio. FFmpeg is given the format as far as it can
    be seen: to find it out, and to look for what the header does not say, it would wait for more bytes.

    Raises:
        UnreadableMedia: see `MediaReader`.
    """

    _block_s = 0.0

    def __init__(self, source: LiveInput) -> None:
        self._source = source
        self._known = demuxer_of(source.peek(_HEAD_BYTES))
        super().__init__(cast("IO[bytes]", source))
        # A recorder that stops early is no damage.
        self.stated_s = None

    def read(self) -> Iterator[Block | Repair]:
        try:
            yield from super().read()
        except UnreadableMedia as error:
            if self._known != "mov":
                raise
            raise UnreadableMedia(
                f"{error}; an MP4 must be sent in fragments, or with its index at its beginning"
            ) from None

    def _open(self, part: Readable) -> None:
        self._demuxer = self._known
        probe_bytes = 32 if self._known else 32_768
        self._options = {"probesize": str(probe_bytes), "analyzeduration": "0", "fpsprobesize": "0"}
        if isinstance(part, WavParts):
            part.read_header()
            if part.pcm is not None:
                self._read_pcm(part.pcm)
        super()._open(part)

    def _read_pcm(self, pcm: Pcm) -> None:
        check_shape(pcm.rate, pcm.channels)
        self._demuxer = pcm.demuxer
        self._options |= {
            "format_whitelist": pcm.demuxer,
            "sample_rate": str(pcm.rate),
            "ch_layout": f"{pcm.channels}C",
        }

    def _split(self, file: IO[bytes]) -> Iterator[Readable]:
        return live_parts(self._source)

    def _new_timeline(self) -> Timeline:
        return Timeline(None, max_hole_s=MAX_HOLE_S)
