"""What the checks read from the machine, in one object, so that a test can describe another machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from streaming_asr.recognizers.common.cores import usable_cores

COMMAND_TIMEOUT_S = 20.0
"""A vendor's tool on a machine with a sick driver may hang; nothing healthy takes this long."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    status: int
    """Exit status; negative when a signal ended it."""
    output: str
    """Standard output and standard error together."""
    timed_out: bool = False
    limit_s: float = COMMAND_TIMEOUT_S
    """How long it was allowed to take."""

    @property
    def failed(self) -> bool:
        return self.timed_out or self.status != 0

    @property
    def last_line(self) -> str:
        """What a person would read first: the last line that is not empty."""
        if self.timed_out:
            return f"no answer within {self.limit_s:.0f} s"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        if lines:
            return lines[-1]
        return f"ended by signal {-self.status}" if self.status < 0 else f"exit status {self.status}"


class Machine:
    """The machine this process runs on. No method raises for what is absent: it returns None or an empty list."""

    python_version: tuple[int, int] = sys.version_info[:2]

    def environ(self, name: str) -> str | None:
        """An environment variable; None where it is unset or empty."""
        return os.environ.get(name) or None

    def version(self, distribution: str) -> str | None:
        """The version of an installed distribution, from its metadata: nothing is imported."""
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def package_file(self, package: str, name: str) -> Path | None:
        """A file or folder inside an installed top-level package, found without importing the package."""
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / name
        return path if path.exists() else None

    def read(self, path: str | Path) -> str | None:
        """The text of a small file."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def glob(self, pattern: str) -> list[Path]:
        """Existing paths that match an absolute pattern, sorted. ``~`` is the user's home."""
        try:
            path = Path(pattern).expanduser()
            return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        except (OSError, RuntimeError):  # RuntimeError: this user has no home.
            return []

    def run(self, *command: str, limit_s: float | None = None) -> Ran | None:
        """Run a command for at most `limit_s`, by default `COMMAND_TIMEOUT_S`. None where there is no such command."""
        limit_s = COMMAND_TIMEOUT_S if limit_s is None else limit_s
        if shutil.which(command[0]) is None:
            return None
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit_s,
                text=True,
                errors="replace",
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Ran(status=1, output="", timed_out=True, limit_s=limit_s)
        except OSError as error:
            return Ran(status=1, output=str(error))
        return Ran(ended.returncode, ended.stdout)

    def import_error(self, module: str, limit_s: float | None = None) -> str | None:
        """Why a module can't be imported within `limit_s`, as of `run`, or None where it can.

        In a process of its own: a library built for another processor ends its process instead of raising.
        """
        ran = self.run(sys.executable, "-c", f"import {module}", limit_s=limit_s)
        return ran.last_line if ran is not None and ran.failed else None

    def cpu_count(self) -> int:
        """The number of CPU cores that this process may use."""
        return usable_cores()

    def memory_gib(self) -> float | None:
        """Memory in GiB: the machine's, or the container's limit where that is lower."""
        try:
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            return None
        limit = (self.read("/sys/fs/cgroup/memory.max") or "").strip()
        return (min(total, int(limit)) if limit.isdigit() else total) / 2**30

    def glibc(self) -> tuple[int, int] | None:
        """The release of the C library that wheels for Linux are built for, or None where it is another one."""
        name, version = platform.libc_ver()
        numbers = version.split(".")[:2]
        if name != "glibc" or len(numbers) < 2 or not all(number.isdigit() for number in numbers):
            return None
        return int(numbers[0]), int(numbers[1])

    def size_gib(self, path: str) -> float | None:
        """The size of the file system at a path, GiB."""
        try:
            return shutil.disk_usage(path).total / 2**30
        except OSError:
            return None

    def shown(self, program: str) -> str:
        """How to name a program of this Python's environment on a command line here: ``pip``, ``.venv/bin/pip``."""
        path = Path(sys.executable).parent / program
        found = shutil.which(program)
        if (found is not None and Path(found).parent == path.parent) or not path.exists():
            return program
        try:
            return str(path.relative_to(Path.cwd()))
        except ValueError:
            return str(path)
