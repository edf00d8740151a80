"""The memory of this process against what it may have, so that sessions are refused before the system ends it.

What each client can take is bounded; this bounds the sum, also of what nobody counts.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

SHARE = 0.9
"""Of the memory that the machine or the container has; the default bound."""
TRIM_INTERVAL_S = 10.0
"""Least time between two attempts to give memory back to the system, which may take some milliseconds."""
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of control groups, version 2 and version 1."""


class MemoryBound:
    """Whether the process has taken the memory it may.

    Args:
        limit: bytes; None where it is not known, so that nothing is bounded.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._trim_after = 0.0

    def excess(self, now: float) -> str | None:
        """Why no more should be taken on; None while there is room.

        Args:
            now: of any clock that never goes back, seconds.
        """
        if self.limit is None:
            return None
        resident = resident_bytes()
        if resident > self.limit and now >= self._trim_after:
            self._trim_after = now + TRIM_INTERVAL_S
            trim()
            resident = resident_bytes()
        if resident <= self.limit:
            return None
        return f"it uses {resident >> 20} MiB of memory, and {self.limit >> 20} MiB are allowed; try again later"


def default_limit() -> int | None:
    """A share of the memory of the machine, or of its container where that has less; None where it is not known."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    for path in CONTAINER_LIMITS:
        try:
            limit = Path(path).read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():
            total = min(total, int(limit))
    return int(total * SHARE)


def resident_bytes() -> int:
    """The memory of this process that is in RAM; 0 on systems that do not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def trim() -> None:
    """Give free memory back to the system, which glibc keeps; nothing where another library allocates."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
