"""Settings that hold for the whole process: for commands, which own theirs, and not for libraries."""

from __future__ import annotations

import contextlib
import gc
import sys

from threadpoolctl import threadpool_limits

GC_THRESHOLD = 20_000
"""New objects after which Python looks for garbage in cycles: by default 700, which a few chunks of audio make, and
hardly any of those is part of a cycle."""


def limit_blas_threads() -> None:
    """Run each matrix product on one thread. Those of voice detection and of spectrograms are so small that sharing
    them out takes up to ten times as long, and threads that wait for work would spin."""
    threadpool_limits(1, user_api="blas")


def tune_garbage_collection() -> None:
    """Look for garbage rarely, and not among what has been loaded so far: it stays, and the search would stop the
    event loop."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def allow_descriptors(wanted: int) -> int:
    """Let this process open as many files and sockets as it wants, as far as the system lets it raise its own limit.

    Returns:
        How many it may open now.
    """
    if sys.platform == "win32":
        # Sockets have no such limit there.
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    # macOS has a lower limit than it reports.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
