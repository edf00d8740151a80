"""Ctrl-C and SIGTERM end a benchmark in the same way: what it started ends too, and what it found is reported."""

from __future__ import annotations

import signal

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def heed_sigterm() -> None:
    """Have SIGTERM do what one Ctrl-C does. For the main thread."""

    def interrupt(number: int, frame: object) -> None:
        # `timeout` sends it twice, and a second Ctrl-C would break off what the first one began to end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # Scripts start what runs in the background with Ctrl-C ignored.
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
