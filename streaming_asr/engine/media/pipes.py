"""Pipes for the event loop, each of whose descriptors is closed once."""

from __future__ import annotations

import asyncio
import os
from typing import IO


def for_event_loop(descriptor: int, mode: str) -> IO[bytes]:
    """A file for `connect_read_pipe` or `connect_write_pipe`, which close it with its transport.

    uvloop closes the descriptor, and then the file, which would close the same number again: by then it may be what
    another thread has just opened.

    Args:
        mode: `rb` or `wb`.
    """
    uvloop = type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop"
    return os.fdopen(descriptor, mode, buffering=0, closefd=not uvloop)
