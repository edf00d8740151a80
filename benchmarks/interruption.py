"""Ctrl-C and SIGTERM end a benchmark in the same way: what it started ends too, and what it found is told."""

from __future__ import annotations

import signal

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def heed_sigterm() -> None:
    """Have SIGTERM do what Ctrl-C does. For the main thread."""
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
