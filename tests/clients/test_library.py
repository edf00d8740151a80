"""What programs need to use the client library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTS = """
import sys

class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "clients", "websockets", "msgspec"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, OnlyThese())
import clients.errors, clients.events, clients.reconnect, clients.stream
"""


@pytest.mark.parametrize("module", ["clients.file", "clients.mic"])
def test_a_python_without_the_packages_says_which_to_use(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "does not have the package" in done.stderr
    assert f".venv/bin/python -m {module}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_library_needs_websockets_and_msgspec_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
