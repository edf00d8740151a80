"""vLLM 0.23, which Ascend has: its own processor, from its own source, takes features once it is patched.

Its kernels need another torch than the rest of these tests, so no engine runs here; the source runs with the torch and
Transformers of the newer release, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streaming_asr.recognizers.vllm import plugin as vllm_plugin

SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from types import SimpleNamespace

from streaming_asr.recognizers.vllm.models.qwen3_asr import load_qwen3_asr
from streaming_asr.recognizers.vllm.compat import patch, version
from streaming_asr.recognizers.vllm.models.qwen3_asr import MODEL_TYPE
from streaming_asr.recognizers.vllm.options import parse_engine_options

async def main(folder):
    print("version", *version())
    options = ["--dtype=float32", "--max-model-len=4096", "--data-parallel-backend=ray"]
    arguments = parse_engine_options(folder, options, MODEL_TYPE.options_here())
    config = arguments.create_engine_config()
    from vllm.renderers import renderer_from_config
    llm = SimpleNamespace(renderer=renderer_from_config(config), model_config=config.model_config)
    checkpoint = json.loads((Path(folder) / "config.json").read_text())
    print("as it comes", (await load_qwen3_asr(checkpoint, llm)).form.name)
    patch()
    patch()
    print("patched", (await load_qwen3_asr(checkpoint, llm)).form.name)

asyncio.run(main(sys.argv[1]))
"""


def test_features_go_through_once_it_is_patched(vllm_023: Path, tiny_qwen3_asr: Path) -> None:
    # Not as this package's recognizer would start it: then vLLM is patched by itself, through the entry point.
    environment = {name: value for name, value in os.environ.items() if name != vllm_plugin.MARK}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_qwen3_asr)],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **environment,
            "PYTHONPATH": f"{vllm_023}{os.pathsep}{os.getcwd()}",
            "VLLM_CACHE_ROOT": str(vllm_023 / "cache"),
            "VLLM_LOGGING_LEVEL": "ERROR",
        },
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("version", "as it", "patched"))]
    assert lines == ["version 0 23", "as it comes WAVEFORM_WINDOWS", "patched FEATURES"]
