"""Ctrl-C in two steps: the first requests the end, the second quits at once."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType, TracebackType

INTERRUPTED = 130
"""Exit status of a command that was interrupted."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context manager that handles SIGINT and SIGTERM for the task that enters it.

    The first signal sets `requested`. The second cancels the task, which still cleans up. The third ends the process.
    """

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._count = 0

    def __enter__(self) -> Interrupts:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        # Not the loop's own handlers, which Windows does not have.
        self._before = [signal.signal(number, self._received) for number in _SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in zip(_SIGNALS, self._before, strict=True):
            signal.signal(number, before)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self._loop.call_soon_threadsafe(self.requested.set)
        elif self._count == 2 and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        else:
            os._exit(INTERRUPTED)
