"""Run the tests that lean on uvicorn's inside with other releases of it.

    python -m tests.support.uvicorn_versions 0.52.0 0.53.0 0.54.0

Each release is installed into a temporary folder, before the one of the environment on the path; the environment itself
is left as it is. Put the first and last release that pass into `TESTED` of streaming_asr/server/live/websocket.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("test_http_bounds", "test_limits", "test_stream", "test_uvicorn_members", "test_websocket")


def tests() -> list[str]:
    """The files of tests to run."""
    return [str(ROOT / "tests" / "server" / f"{name}.py") for name in NAMES]


def passes(version: str, folder: str) -> bool:
    """Whether the tests pass with a release of uvicorn, which is installed into a folder."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", folder, f"uvicorn=={version}"], check=True)
    path = os.pathsep.join([folder, str(ROOT)])
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests()]
    return subprocess.run(test, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False).returncode == 0


def main(versions: list[str]) -> int:
    results: dict[str, bool] = {}
    for version in versions:
        with tempfile.TemporaryDirectory(prefix="uvicorn-") as folder:
            results[version] = passes(version, folder)
    for version, passed in results.items():
        print(f"uvicorn {version}: {'passed' if passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
