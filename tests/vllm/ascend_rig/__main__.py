"""Installs the rig into this virtual environment, and runs the tests that need it; see `make ascend-rig`.

VENV/bin/python -m tests.vllm.ascend_rig [ARGUMENTS OF PYTEST]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from streaming_asr.recognizers.vllm import versions
from tests.vllm.ascend_rig import install

CHECKOUT = install.CHECKOUT
TESTS = Path("tests/vllm")
NO_TESTS = 5
"""pytest's exit status where ``-k`` leaves none."""

ON_CPU = (TESTS, f"--ignore={TESTS / 'test_word_aligner.py'}")
"""Under vLLM's own CPU platform: all tests but one file. Its reference is a model of newer releases of Transformers."""
ON_ASCEND = (
    TESTS / "ascend_rig",
    TESTS / "test_ascend_platform.py",
    TESTS / "test_qwen3_engine.py",
    TESTS / "test_engine_death.py",
    TESTS / "test_live_sessions.py",
)
"""Under vllm-ascend. It runs no Whisper; the other tests start no engine."""


def main(arguments: Sequence[str]) -> int:
    if status := install.main():
        return status
    results = []
    with tempfile.TemporaryDirectory(prefix="ascend-rig-") as folder:
        log = Path(folder) / "encoder.jsonl"
        log.touch()
        for name, paths, environment in (
            (f"vllm-ascend {versions.VLLM_ASCEND} on the CPU", ON_ASCEND, ascend(log)),
            (f"vLLM {versions.ASCEND_VLLM} for CPU", ON_CPU, cpu()),
        ):
            print(f"\n== {name}", flush=True)
            began = time.monotonic()
            command = [sys.executable, "-m", "pytest", "--timeout=900", *map(str, paths), *arguments]
            with install.interrupts_left_to_children() as interrupted:
                status = subprocess.call(command, cwd=CHECKOUT, env=environment)
            if interrupted():
                return install.INTERRUPTED
            results.append((status in (0, NO_TESTS), time.monotonic() - began, name))
    print("\n== Summary")
    for passed, took_s, name in results:
        print(f"{'ok' if passed else 'FAILED':8}{took_s:5.0f} s  {name}")
    return 0 if all(passed for passed, *_ in results) else 1


def cpu() -> dict[str, str]:
    """The environment of processes in which vLLM takes its CPU platform."""
    return environment({"PYTHONPATH": str(CHECKOUT)})


def ascend(log: Path) -> dict[str, str]:
    """The environment of processes in which vLLM takes vllm-ascend's platform.

    Args:
        log: see ``simulator/torch_npu/operators.py``.
    """
    paths = (install.HERE / "simulator", install.ASCEND, CHECKOUT)
    return environment({"PYTHONPATH": os.pathsep.join(map(str, paths)), "TORCH_NPU_SIMULATOR_LOG": str(log)})


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, with what both have in common."""
    return {
        **os.environ,
        "VLLM_CACHE_ROOT": str(install.VENV / "cache"),
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        **more,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
