"""What a decoder's process has used of the processors, and its priority. Linux alone says both of others' processes."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

LOWEST = 19
"""Niceness. Beside a process of niceness 0, one of these gets a seventieth of a processor, so 24 of them a quarter.
Therefore they get Linux's idle policy too, by which one gets a three-hundredth."""


def cpu_s(pid: int) -> float | None:
    """Processor time that a process and its forks have used, seconds; None where it is not known."""
    if sys.platform != "linux":
        return None
    ticks = 0
    try:
        for one in (pid, *forks_of(pid)):
            # User and system time, its own and that of forks that have ended; the name before may have spaces.
            fields = Path(f"/proc/{one}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    except (OSError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def lower(pid: int) -> None:
    """Give a process, its forks and all their threads the lowest priority; on Linux, else nothing is done."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        for one in (pid, *forks_of(pid)):
            for thread in os.listdir(f"/proc/{one}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), LOWEST)
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))


def forks_of(pid: int) -> list[int]:
    """The processes that a process has started; none where that is not known."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()))
    except OSError:
        # Kernels may be built without this file.
        return []
