"""How many sessions may send files, each of which has a child process to decode it, and with which priority.

A live session's file should be decoded before recordings are, and costs next to nothing. But a file can be made that
takes as much processor time as its decoder may use, and whoever has many of them would slow down all who speak. So an
address has a share of the processors at the server's priority; beyond it, its decoders get what nobody else needs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from streaming_asr.engine.media import priorities
from streaming_asr.engine.media.decoders import Decoders
from streaming_asr.server.addresses import Bucket, PerAddress, place
from streaming_asr.server.metrics import Metrics

logger = logging.getLogger(__name__)

ADDRESS_SHARE = 0.75
"""Of the sessions that may send files, those of one address; at least one."""
CPU_S, CPU_S_PER_S = 1.0, 0.125
"""Processor time that the decoders of one address may use at the server's priority: at once, and for each second.
WebM of one speaker takes 0.005 s a second."""
START_CPU_S = 0.4
"""What a decoder costs until it is first looked at; charged before it is started, as many may be started at once."""
SAMPLE_S = 0.25
"""How often it is looked up what they have used."""


class TooManyFiles(Exception):
    """As many sessions as are allowed send files. The message is for the user."""


class FilePlace:
    """The place of one session.

    Args:
        decoders: start its child.
        low: whether its address has had more than its share already.
    """

    def __init__(self, address: str, decoders: Decoders, *, low: bool) -> None:
        self.address = address
        self.decoders = decoders
        self.low = low
        """Whether its child has the lowest priority."""
        self.pid: int | None = None
        self.charged_s = 0.0

    def lower(self) -> None:
        """Give its child the lowest priority."""
        self.low = True
        if self.pid is not None:
            priorities.lower(self.pid)


class FileSessions:
    """What the sessions that send files share.

    Args:
        decoders: start the children.
        background: start those of addresses that have had more than their share.
        most: sessions at once.
        max_s: length of the longest file, seconds.
    """

    def __init__(self, decoders: Decoders, background: Decoders, metrics: Metrics, most: int, max_s: float) -> None:
        self.max_s = max_s
        self._decoders = decoders
        self._background = background
        self._metrics = metrics
        self._most = most
        self._most_at_address = max(1, int(ADDRESS_SHARE * most))
        self._places: set[FilePlace] = set()
        self._at_address: Counter[str] = Counter()
        self._used = PerAddress(Bucket)
        """Processor time at the server's priority, seconds."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """Sessions that send files."""
        return len(self._places)

    def decoder_lost(self) -> None:
        """A child crashed, or was ended for what it took."""
        self._metrics.decoders_lost.labels("session").inc()

    @contextmanager
    def place(self, address: str) -> Iterator[FilePlace]:
        """A place for a session.

        Args:
            address: of the client.

        Raises:
            TooManyFiles: all are taken, or all that the address may have.
        """
        key = place(address)
        if self.count >= self._most:
            raise TooManyFiles(f"{self._most} sessions send files; send raw audio, or try again later")
        if self._at_address[key] >= self._most_at_address:
            most = self._most_at_address
            raise TooManyFiles(f"{most} sessions from your address send files; send raw audio, or try again later")
        low = self._had_share(address)
        taken = FilePlace(address, self._background if low else self._decoders, low=low)
        self._places.add(taken)
        self._at_address[key] += 1
        self._metrics.decoders.set(self.count)
        if not low:
            self._charge(taken, START_CPU_S)
        try:
            yield taken
        finally:
            self._places.discard(taken)
            self._at_address[key] -= 1
            if not self._at_address[key]:
                del self._at_address[key]
            self._metrics.decoders.set(self.count)

    @contextmanager
    def watched(self, taken: FilePlace, pid: int) -> Iterator[None]:
        """Count what a session's child uses, within the context; it must not be waited for before the end of it."""
        taken.pid = pid
        if taken.low:
            taken.lower()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SAMPLE_S, self._sample)
        try:
            yield
        finally:
            self._look_up(taken)
            taken.pid = None

    def _sample(self) -> None:
        self._timer = None
        watched = [taken for taken in self._places if taken.pid is not None]
        for taken in watched:
            self._look_up(taken)
        for taken in watched:
            if not taken.low and self._had_share(taken.address):
                logger.info("Decoder %d of a file from %s: %s", taken.pid, taken.address, "lowest priority from now on")
                taken.lower()
        if watched:
            self._timer = asyncio.get_running_loop().call_later(SAMPLE_S, self._sample)

    def _look_up(self, taken: FilePlace) -> None:
        """Charge what a child has used since the last time."""
        if taken.pid is not None and not taken.low and (used := priorities.cpu_s(taken.pid)) is not None:
            self._charge(taken, max(0.0, used - taken.charged_s))

    def _charge(self, taken: FilePlace, cpu_s: float) -> None:
        taken.charged_s += cpu_s
        bucket = self._used.get(taken.address)
        bucket.leak(CPU_S_PER_S, time.monotonic())
        bucket.level += cpu_s

    def _had_share(self, address: str) -> bool:
        """Whether an address has had more than its share."""
        bucket = self._used.find(address)
        return bucket is not None and bucket.leak(CPU_S_PER_S, time.monotonic()) > CPU_S
