"""The process of a replica with all that it has started, such as an engine, or decoders of recordings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

ALL_GONE_S, LOOK_AGAIN_S = 5.0, 0.02
"""How long to wait for the processes of a group that was killed."""


def kill_group(group: int) -> None:
    """Kill all processes of a group, if there are any."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


async def group_gone(group: int) -> None:
    """Wait until no process of a group is left, so that devices are free again; not for long, since processes that
    have ended stay where nobody waits for them."""
    for _ in range(round(ALL_GONE_S / LOOK_AGAIN_S)):
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        await asyncio.sleep(LOOK_AGAIN_S)


def describe_status(status: int) -> str:
    """How a process ended, by its exit status: "with status 3", "by SIGKILL"."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
