"""SIGTERM ends a benchmark as Ctrl-C does, also one that a script has started in the background."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, signal
signal.signal(signal.SIGINT, getattr(signal, {before!r}))
from benchmarks.common.interruption import INTERRUPTED, heed_sigterm
heed_sigterm()
async def run():
    try:
        print("running", flush=True)
        await asyncio.sleep(60)
    finally:
        print("kept", flush=True)
try:
    asyncio.run(run())
except KeyboardInterrupt:
    raise SystemExit(INTERRUPTED)
"""


@pytest.mark.parametrize("before", ["default_int_handler", "SIG_IGN"])
def test_sigterm_ends_what_runs_and_keeps_what_was_done(before: str) -> None:
    command = [sys.executable, "-c", SCRIPT.format(before=before)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "kept\n"
    assert process.returncode == 130
