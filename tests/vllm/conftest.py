"""The engine that these tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Compiling kernels takes longer than these small models run, and torch's compiler fails where
# ATEN_CPU_CAPABILITY=default asks for code that any processor has.
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")

if importlib.util.find_spec("vllm") is None:
    # Where vLLM can't be installed (Python 3.10), what stands on it can't even be imported.
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.vllm.engine import LiveEngine
    from tests.vllm.tiny_qwen3_asr import make_checkpoint

    @pytest.fixture(scope="session")
    def tiny_qwen3_asr(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A small Qwen3-ASR checkpoint."""
        return make_checkpoint(tmp_path_factory.mktemp("qwen3_asr"))

    @pytest.fixture(scope="session")
    def engine(tiny_qwen3_asr: Path) -> Iterator[LiveEngine]:
        """The real engine with that checkpoint. Starting one takes longer than most tests, so they share it."""
        with LiveEngine(tiny_qwen3_asr, "--max-model-len=4096", "--max-num-seqs=16") as live:
            yield live
