"""Each peer in a virtual environment of its own, installed once until what it asks for changes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Peer, PeerUnavailable

INSTALLS_WITHIN_S = 1800.0
SHOWN_LINES = 12
"""Of what failed, the last."""


def python_of(peer: Peer, cache: Path, pip_options: Sequence[str] = ()) -> Path:
    """The Python that has the peer's packages, installed now if they are not.

    Args:
        cache: folder of all environments.
        pip_options: for both installations, such as an index of CPU builds of PyTorch.

    Raises:
        PeerUnavailable: they can't be installed.
    """
    if not peer.environment:
        return Path(sys.executable)
    folder = cache / peer.environment
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = folder / "installed"
    wanted = _digest(peer)
    if not (stamp.is_file() and stamp.read_text() == wanted):
        pip: tuple[str | Path, ...] = (
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *pip_options,
        )
        run_or_tell(f"making the environment of {peer.title}", sys.executable, "-m", "venv", "--clear", folder)
        if peer.requirements:
            run_or_tell(f"installing what {peer.title} needs", *pip, *peer.requirements)
        # A server's requirements name what only its other uses need, gigabytes of it: those above are enough to serve.
        run_or_tell(f"installing {peer.title}", *pip, "--no-deps", *peer.packages)
        stamp.write_text(wanted)
    return python


def versions_in(python: Path) -> list[str]:
    """What is installed, as `name==version`, for the record."""
    done = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def run_or_tell(what: str, *command: str | Path, cwd: Path | None = None, within_s: float = INSTALLS_WITHIN_S) -> None:
    """Run to the end.

    Args:
        what: it is, for the message.

    Raises:
        PeerUnavailable: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=within_s, cwd=cwd, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerUnavailable(f"{what} took more than {within_s:g} s") from None
    except OSError as error:
        raise PeerUnavailable(f"{what} failed: {error}") from None
    if done.returncode:
        raise PeerUnavailable(f"{what} failed:\n{last_lines(done.stdout)}")


def last_lines(text: str) -> str:
    """The end of a log; where an index or folder is missing, pip's warnings say so for each package."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
    return "\n".join(lines[-SHOWN_LINES:])


def _digest(peer: Peer) -> str:
    wanted = "\n".join((*peer.packages, "", *peer.requirements, sys.version))
    return hashlib.sha256(wanted.encode()).hexdigest()
