"""Where and with what a run was made, so that it can be made again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = (
    *("streaming-asr", "websockets", "uvloop", "msgspec", "numpy", "soxr", "soundfile", "jiwer"),
    *("whisper-normalizer", "faster-whisper", "ctranslate2", "vllm", "torch"),
)
_REPOSITORY = Path(__file__).parents[2]


def setting() -> dict[str, Any]:
    """Machine, versions and commit of the generator; of the server too where they share them."""
    return {"machine": machine(), "versions": versions(), "commit": commit()}


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Of what is installed here."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Of this checkout, with `+` behind it if it was changed since; None outside a checkout."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + "+" * bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ("git", "-C", str(_REPOSITORY), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
