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
from tests.vllm.tiny_aligner import make_aligner

FEATURES = """
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

ALIGNER = """
import asyncio, json, sys
from pathlib import Path

import numpy as np

from streaming_asr.recognizers.vllm.models.qwen3_aligner import ENGINE_OPTIONS, Qwen3Aligner
from streaming_asr.recognizers.vllm.options import parse_engine_options

async def main(folder):
    options = parse_engine_options(folder, ["--dtype=float32"], ENGINE_OPTIONS)
    config = options.create_engine_config()
    model = config.model_config
    print("class", model.architecture, model.runner_type, model.max_model_len)
    print("pooling", model.pooler_config.tok_pooling_type, config.scheduler_config.policy)
    print("cache", config.cache_config.kv_cache_memory_bytes, config.cache_config.enable_prefix_caching)

    from vllm import PoolingParams
    from vllm.renderers import renderer_from_config

    renderer = renderer_from_config(config)
    checkpoint = json.loads((Path(folder) / "config.json").read_text())
    aligner = Qwen3Aligner(renderer.tokenizer, checkpoint, max_model_len=model.max_model_len)
    question = aligner.prepare(np.ones(24_000, np.float32), "a b", "en").question
    parameters = PoolingParams(
        task="token_classify", use_activation=False, step_tag_id=question.token, returned_token_ids=[*question.classes]
    )
    parameters.verify(model)
    print("asked", parameters.step_tag_id == question.token, len(parameters.returned_token_ids))
    (rendered,) = await renderer.render_cmpl_async([question.prompt])
    ids = rendered["prompt_token_ids"]
    print("prompt", len(ids), ids.count(question.token))

asyncio.run(main(sys.argv[1]))
"""


def test_features_go_through_once_it_is_patched(vllm_023: Path, tiny_qwen3_asr: Path) -> None:
    assert printed(FEATURES, vllm_023, tiny_qwen3_asr) == [
        "version 0 23",
        "as it comes WAVEFORM_WINDOWS",
        "patched FEATURES",
    ]


def test_it_takes_a_word_aligner_and_its_questions(vllm_023: Path, tmp_path: Path) -> None:
    assert printed(ALIGNER, vllm_023, make_aligner(tmp_path)) == [
        "class Qwen3ASRForcedAlignerForTokenClassification pooling 8192",
        "pooling STEP priority",
        f"cache {2 << 30} False",
        # 1.5 s are 19 steps, and the one they end in.
        "asked True 20",
        # 20 positions of audio in two tokens, and two units with two timestamps each.
        "prompt 28 4",
    ]


def printed(script: str, vllm_023: Path, checkpoint: Path) -> list[str]:
    """What a script prints where vLLM is 0.23."""
    # Not as this package's recognizer would start it: then vLLM is patched by itself, through the entry point.
    environment = {name: value for name, value in os.environ.items() if name != vllm_plugin.MARK}
    ran = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint)],
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
    firsts = ("version", "as it", "patched", "class", "pooling", "cache", "asked", "prompt")
    return [line for line in ran.stdout.splitlines() if line.startswith(firsts)]
