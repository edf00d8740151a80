"""Settings that hold for the whole process: for commands, which own theirs, and not for libraries."""

from __future__ import annotations

import gc

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
