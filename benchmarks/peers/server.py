"""A peer's server as a child process: started, waited for, and ended with all its children."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.common.adapters import Adapter, SessionFailed, SessionRefused
from benchmarks.peers.environments import last_lines
from benchmarks.peers.peer import PeerUnavailable

READY_WITHIN_S = 240.0
"""Importing and compiling on the first start takes some of them a minute."""
ENDS_WITHIN_S = 5.0
"""After Ctrl-C's signal; then it is killed."""
_POLL_S = 0.2


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(
    command: Sequence[str | Path],
    adapter: Adapter,
    *,
    log: Path,
    home: Path,
    variables: Mapping[str, str] | None = None,
    ready_within_s: float = READY_WITHIN_S,
) -> AsyncIterator[int]:
    """Start a server, wait until it takes a session, and end it on leaving; gives its process number.

    Args:
        log: gets what it says.
        home: its working and home folder, so that it leaves nothing elsewhere.

    Raises:
        PeerUnavailable: it ended, or takes no session in time.
    """
    home.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**inherited, "HOME": str(home), "HF_HUB_OFFLINE": "1", **(variables or {})}
    process = _start(command, log, home, environment)
    try:
        await _until_ready(process, adapter, log, ready_within_s)
        yield process.pid
    finally:
        end(process)


def _start(
    command: Sequence[str | Path], log: Path, home: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with log.open("wb") as written:
        try:
            # A session of its own, so that all its children can be signalled, and Ctrl-C reaches it through us alone.
            return subprocess.Popen(
                command, stdout=written, stderr=written, cwd=home, env=environment, start_new_session=True
            )
        except OSError as error:
            raise PeerUnavailable(f"it can't be started: {error}") from None


async def _until_ready(process: subprocess.Popen[bytes], adapter: Adapter, log: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    reason = "it does not answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PeerUnavailable(f"it ended with status {process.returncode}:\n{log_end(log)}")
        try:
            async with adapter.session("en"):
                return
        except (SessionRefused, SessionFailed) as refused:
            reason = str(refused)
        await asyncio.sleep(_POLL_S)
    raise PeerUnavailable(f"it took no session within {within_s:g} s ({reason}):\n{log_end(log)}")


def log_end(log: Path) -> str:
    """The last lines of a server's log."""
    return last_lines(log.read_text(errors="replace"))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server that was started in a session of its own, and whatever it started. Returns when all are gone."""
    with suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
        _signal(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
        _signal(process, signal.SIGKILL)
        for child in tree:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(tree, timeout=ENDS_WITHIN_S)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To its whole group, which outlives its first process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
