"""Our engine options under vllm-ascend's own platform, from its own source and that of the vLLM which it extends.

There is no NPU and no torch-npu: of that only the names exist. What the platform's `check_and_update_config` refuses or
changes shows here; what the operators do does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streaming_asr.recognizers.vllm import plugin as vllm_plugin

NAMES = Path(__file__).parent / "ascend_rig" / "simulator"
"""torch-npu, as far as it takes no NPU."""

TUTORIAL = ["--tensor-parallel-size=1", "--max-model-len=4096", "--gpu-memory-utilization=0.9", "--enforce-eager"]
"""The line of vllm-ascend's tutorial."""

TENSOR, DATA = ["--tensor-parallel-size=2"], ["--data-parallel-size=2"]

LEFT_OUT = (vllm_plugin.MARK, "TORCH_COMPILE_DISABLE")
"""Variables of the tests' own process. With the second there are no graphs."""

SCRIPT = """
import json, sys

from streaming_asr.recognizers.vllm.compat import patch, version
from streaming_asr.recognizers.vllm.device import device_here
from streaming_asr.recognizers.vllm.models.registry import model_type
from streaming_asr.recognizers.vllm.options import parse_engine_options
from vllm.platforms import current_platform

assert version() == (0, 23)
patch()
for options in json.loads(sys.argv[2]):
    arguments = parse_engine_options(sys.argv[1], options, model_type("qwen3_asr").options_here())
    config = arguments.create_engine_config()
    print("CONFIG", json.dumps({
        "platform": type(current_platform).__name__,
        "device": device_here().name,
        "dtype": str(config.model_config.dtype),
        "positions": config.model_config.max_model_len,
        "block": config.cache_config.block_size,
        "prefix_caching": config.cache_config.enable_prefix_caching,
        "policy": config.scheduler_config.policy,
        "graphs": config.compilation_config.cudagraph_mode.name,
        "sizes": config.compilation_config.cudagraph_capture_sizes,
        "worker": config.parallel_config.worker_cls.rpartition(".")[2],
        "engines": config.parallel_config.data_parallel_size,
        "devices": config.parallel_config.tensor_parallel_size,
        "processes": config.parallel_config.distributed_executor_backend,
    }))
"""


@pytest.fixture
def resolved(vllm_023: Path, vllm_ascend: Path, tiny_qwen3_asr: Path, tmp_path: Path) -> Any:
    """The engine's configurations for a family of chips, one for each list of options of the user."""

    def resolve(family: str, *options: list[str]) -> list[dict[str, Any]]:
        built_for = tmp_path / family / "vllm_ascend"
        built_for.mkdir(parents=True)
        for part in (vllm_ascend / "vllm_ascend").iterdir():
            (built_for / part.name).symlink_to(part)
        (built_for / "_build_info.py").unlink()
        (built_for / "_build_info.py").write_text(f"__device_type__ = {family!r}\n")
        paths = (NAMES, built_for.parent, vllm_ascend, vllm_023, Path.cwd())
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tiny_qwen3_asr), json.dumps(options)],
            capture_output=True,
            text=True,
            timeout=400,
            env={
                **{name: value for name, value in os.environ.items() if name not in LEFT_OUT},
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
                # Shared, so that only the first looks into the model.
                "VLLM_CACHE_ROOT": str(vllm_023 / "cache"),
                "VLLM_LOGGING_LEVEL": "ERROR",
            },
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        lines = [line for line in ran.stdout.splitlines() if line.startswith("CONFIG ")]
        return [json.loads(line.removeprefix("CONFIG ")) for line in lines]

    return resolve


COMMON = {
    "platform": "NPUPlatform",
    "positions": 4096,
    "block": 128,
    "prefix_caching": True,
    "policy": "priority",
    "engines": 1,
    "devices": 1,
    "processes": "uni",
}


@pytest.mark.parametrize("family", ["A2", "A3"])
def test_an_atlas_a2_or_a3_takes_no_options_the_tutorials_line_and_two_npus(resolved: Any, family: str) -> None:
    by_itself, tutorial, tensor, data = resolved(family, [], TUTORIAL, TENSOR, DATA)
    expected = {**COMMON, "device": "ASCEND", "dtype": "torch.bfloat16", "worker": "NPUWorker"}
    # As the vendor's nightly on an A2, which has no options for graphs either.
    assert {**expected, "graphs": "FULL_AND_PIECEWISE"}.items() <= by_itself.items()
    assert {**expected, "graphs": "NONE"}.items() <= tutorial.items()
    assert {**expected, "devices": 2, "processes": "mp"}.items() <= tensor.items()
    assert {**expected, "engines": 2, "processes": "mp"}.items() <= data.items()


def test_a_300i_duo_takes_no_options_and_the_tutorials_line(resolved: Any) -> None:
    by_itself, tutorial = resolved("_310P", [], TUTORIAL)
    expected = {**COMMON, "device": "ASCEND_310P", "dtype": "torch.float16", "worker": "NPUWorker310"}
    assert {**expected, "graphs": "FULL_DECODE_ONLY", "sizes": [1, 4]}.items() <= by_itself.items()
    assert {**expected, "graphs": "NONE"}.items() <= tutorial.items()
