"""The audio encoder with vllm-ascend's attention: what windows rest on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_windows_give_what_the_whole_gives(tiny_qwen3_asr: Path) -> None:
    # In a process of its own: it initializes vLLM's distributed state.
    command = [sys.executable, "-m", "tests.vllm.ascend_rig.encoder", str(tiny_qwen3_asr)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [line.removeprefix("ENCODED ") for line in ran.stdout.splitlines() if line.startswith("ENCODED ")]
    results = [json.loads(line) for line in lines]
    assert [result["parts"] for result in results] == [[800, 800, 850], [800, 100], [800, 837]]
    for result in results:
        assert result["attention"] == "AscendMMEncoderAttention"
        assert result["together"] == 0.0
        # A call with a single second multiplies matrices of another shape.
        assert result["alone"] < 1e-5
        # Cut at other places than the encoder's, it differs.
        assert result["elsewhere"] > 0.1
