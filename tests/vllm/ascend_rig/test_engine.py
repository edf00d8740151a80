"""The recognizer on vllm-ascend's worker, model runner, scheduler and attention.

The tests of `tests/vllm/test_qwen3_engine.py`, `test_engine_death.py` and `test_live_sessions.py` run here as well:
windows, prefixes, priorities, cancelled partials, a killed engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context
from streaming_asr.recognizers.vllm.models.base import Completion
from streaming_asr.recognizers.vllm.models.qwen3_audio import Form, UtteranceAudio
from tests.vllm.ascend_rig.__main__ import cpu
from tests.vllm.ascend_rig.decodes import decodes
from tests.vllm.engine import SAME, LiveEngine, far_apart, speech

WINDOW = 104
"""Positions of one of the encoder's windows."""


def test_the_engine_is_vllm_ascends(engine: LiveEngine) -> None:
    assert engine.recognizer._engine is not None
    config = engine.recognizer._engine.llm.vllm_config
    assert config.parallel_config.worker_cls == "vllm_ascend.worker.worker.NPUWorker"
    assert engine.recognizer.capabilities.device == "1 x npu, float32"
    assert (config.scheduler_config.policy, config.cache_config.block_size) == ("priority", 128)


def test_the_self_check_of_the_device_passes(engine: LiveEngine) -> None:
    verdict = engine.recognizer.verdict
    assert verdict is not None
    assert verdict.works, verdict.detail


def test_it_decodes_what_vllms_cpu_engine_decodes(engine: LiveEngine, tiny_qwen3_asr: Path) -> None:
    command = [sys.executable, "-m", "tests.vllm.ascend_rig.decodes", str(tiny_qwen3_asr)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, env=cpu())
    assert ran.returncode == 0, ran.stderr[-3000:]
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("DECODED ")]
    reference = json.loads(line.removeprefix("DECODED "))
    assert reference["device"] == "1 x cpu, float32"
    ours = decodes(engine)
    assert len(ours) == len(reference["completions"])
    for number, (one, (tokens, logprobs, complete)) in enumerate(zip(ours, reference["completions"], strict=True)):
        assert far_apart(one, Completion(tuple(tokens), tuple(logprobs), complete)) < SAME, number
    assert len({one.tokens for one in ours}) > 5


def test_each_window_is_encoded_once(
    engine: LiveEngine, librivox: Path, encoded: Callable[[], list[list[int]]]
) -> None:
    audio = steady(librivox)
    utterance = UtteranceAudio("once", engine.geometry, Form.FEATURES)
    encoded()
    for second in range(1, 35):
        engine.run(engine.request(utterance.input(audio[: second * SAMPLE_RATE], exact=False), max_tokens=1))
        # What became a window now, and the tail.
        frozen = [WINDOW] if second in (9, 17, 25, 33) else []
        assert encoded() == [[*frozen, 13 * (second - 8 * windows_after(second))]]


def test_whole_blocks_of_finished_windows_are_not_prefilled_again(engine: LiveEngine, librivox: Path) -> None:
    audio = steady(librivox)
    utterance = UtteranceAudio("blocks", engine.geometry, Form.FEATURES)
    before_audio = engine.prompt.ids(1, Context(), None).index(engine.prompt._audio)
    cached = []
    for second in range(10, 35):
        request = engine.request(utterance.input(audio[: second * SAMPLE_RATE], exact=False), max_tokens=1)
        cached.append(engine.run(request).cached_tokens)
    common = [before_audio + WINDOW * windows_after(second - 1) for second in range(11, 35)]
    assert cached == [0, *(positions // 128 * 128 for positions in common)]


def steady(folder: Path) -> Audio:
    """Speech whose loudest sound comes first, so that the floor of the spectrogram stays, and with it each window."""
    audio = speech(folder, 34)
    audio[4 * SAMPLE_RATE :] *= 0.2
    return audio


def windows_after(seconds: int) -> int:
    """Finished windows of 8 s: a second of audio has followed them."""
    return max(0, (seconds - 1) // 8)
