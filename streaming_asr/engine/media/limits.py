"""What the child may use at most. Where the platform has no such limits, only the parent's clock holds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

MEMORY_BYTES, LIVE_MEMORY_BYTES = 2**30, 2**28
"""Address space beyond what the child has when its libraries are loaded: for a recording, and for a live session's
file, of which there may be many at once, and of which little has to be kept."""
OOM_SCORE = 800
"""Of 1000: how soon Linux ends a process when memory runs out."""
MAX_FILES = 16
"""Descriptors, with the three standard ones."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def limit_process(cpu_s: int, memory_bytes: int = MEMORY_BYTES) -> None:
    """Limit this process. Called before a recording is opened.

    Args:
        cpu_s: processor time, seconds; `allow_cpu` sets how much of it a live session's file may use so far.
        memory_bytes: address space, besides what is in use now.
    """
    if sys.platform == "win32":
        return
    import resource

    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_NOFILE: MAX_FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: _address_space() + memory_bytes,
    }
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # macOS has some of these only by name.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(name, (value, value))
    # Where memory runs out, the system ends this process before the server.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(OOM_SCORE))


def allow_cpu(cpu_s: int) -> None:
    """Set how much processor time this process may use so far, seconds, within what `limit_process` set."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s if hard < 0 else min(cpu_s, hard), hard))


def leave_signals_to_parent() -> None:
    """Ignore what a terminal or a service manager sends to all processes of a server.

    The parent lets recordings finish, and kills its children.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """On Linux, have this process killed when its parent ends, and deny it new privileges."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _address_space() -> int:
    """Bytes of address space in use; half a gigabyte where that is not known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 2**29
