"""What `make ascend-rig` changes in vLLM and vllm-ascend is in the releases that are supported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.vllm.ascend_rig.on_cpu import VLLM, VLLM_ASCEND, Change, apply


def test_each_line_is_found_and_changed_once(vllm_023: Path, vllm_ascend: Path, tmp_path: Path) -> None:
    for changes, source in ((VLLM, vllm_023 / "vllm"), (VLLM_ASCEND, vllm_ascend / "vllm_ascend")):
        package = tmp_path / source.name
        for change in changes:
            (package / change.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / change.path, package / change.path)
        apply(changes, package)
        changed = {path: path.read_text() for path in package.rglob("*.py")}
        apply(changes, package)
        assert {path: path.read_text() for path in package.rglob("*.py")} == changed


def test_another_release_is_refused_instead_of_half_changed(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text('device = "npu"\nother = "npu"\n')
    with pytest.raises(ValueError, match='has 2 times, not 1 times: "npu"'):
        apply((Change("worker.py", '"npu"', '"cpu"'),), tmp_path)
    with pytest.raises(ValueError, match="has 0 times"):
        apply((Change("worker.py", '"hccl"', '"gloo"'),), tmp_path)
