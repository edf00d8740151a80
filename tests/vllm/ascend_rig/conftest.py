"""The engine of these tests is that of `tests.vllm`: where vllm-ascend is on the path, vLLM takes its platform."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

LOG = "TORCH_NPU_SIMULATOR_LOG"
LAYERS = 2
"""Of the small checkpoint's encoder."""

if LOG not in os.environ:
    # They run in no other environment than that of `make ascend-rig`.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def encoded() -> Callable[[], list[list[int]]]:
    """Gives the lengths of the sequences of each pass through an encoder since the last call, of all engines."""
    log = Path(os.environ[LOG])
    read = len(log.read_text().splitlines())

    def since() -> list[list[int]]:
        nonlocal read
        lines = log.read_text().splitlines()
        new, read = [json.loads(line) for line in lines[read:]], len(lines)
        passes: list[list[int]] = []
        for process in {process for process, _ in new}:
            # Each layer's attention logs it.
            logged = [lengths for by, lengths in new if by == process]
            assert logged[::LAYERS] == logged[1::LAYERS]
            passes += logged[::LAYERS]
        return passes

    return since
