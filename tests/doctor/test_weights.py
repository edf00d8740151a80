"""The doctor and weights: whether they are whole, where they are, from where they are fetched."""

from __future__ import annotations

import pytest

from tests.support.fake_machine import (
    ASCEND,
    CPU,
    CUDA,
    HUB,
    LOCAL,
    QWEN,
    FakeMachine,
    ascend_machine,
    cuda_machine,
    start,
    use,
)


def test_half_fetched_weights_are_not_weights() -> None:
    machine = ascend_machine()
    del machine.files[f"{QWEN}/model-00002-of-00002.safetensors"]
    weights = use(machine, "Ascend").helps[0]
    assert weights.state == "missing"
    assert use(machine, "Ascend").standing == "ready", "they are fetched at the first start"


@pytest.mark.parametrize(
    "folder",
    [
        "hub/models/Qwen/Qwen3-ASR-0___6B",
        "models/Qwen/Qwen3-ASR-0___6B",
        "Qwen/Qwen3-ASR-0___6B",
        "models/Qwen--Qwen3-ASR-0.6B/snapshots/master",
    ],
)
def test_modelscope_weights_are_started_by_path(folder: str) -> None:
    path = f"/data/ms/{folder}"
    machine = cuda_machine(LOCAL | CUDA)
    machine.environment["MODELSCOPE_CACHE"] = "/data/ms"
    machine.files |= {f"{path}/config.json": "{}", f"{path}/model.safetensors": ""}
    assert start(machine) == f"streaming-asr serve {path}"


@pytest.mark.parametrize("folder", ["/models", "/models/Qwen", "/data/models"])
def test_weights_in_a_mounted_folder_are_started_by_path(folder: str) -> None:
    machine = ascend_machine()
    machine.files = {name: text for name, text in machine.files.items() if not name.startswith(HUB)}
    path = f"{folder}/Qwen3-ASR-1.7B"
    machine.files |= {f"{path}/config.json": "{}", f"{path}/model.safetensors": ""}
    assert start(machine) == f"streaming-asr serve {path}"


def test_weights_are_fetched_from_the_hub_that_is_in_use() -> None:
    machine = ascend_machine(installed=LOCAL | ASCEND | {"modelscope": "1.39.1"})
    machine.files = {name: text for name, text in machine.files.items() if not name.startswith(HUB)}
    assert use(machine, "Ascend").helps[0].fix == "hf download Qwen/Qwen3-ASR-1.7B"
    machine.environment["VLLM_USE_MODELSCOPE"] = "True"
    assert use(machine, "Ascend").helps[0].fix == "modelscope download Qwen/Qwen3-ASR-1.7B"


@pytest.mark.parametrize(
    ("variable", "value", "hub"),
    [("HF_HOME", "/hf", "/hf/hub"), ("HF_HUB_CACHE", "/h", "/h"), ("XDG_CACHE_HOME", "/c", "/c/huggingface/hub")],
)
def test_hugging_face_cache_is_where_its_variables_say(variable: str, value: str, hub: str) -> None:
    path = f"{hub}/models--Qwen--Qwen3-ASR-0.6B/snapshots/1"
    machine = FakeMachine(LOCAL | CPU, {f"{path}/config.json": "", f"{path}/a.safetensors": ""}, {}, {variable: value})
    assert use(machine, "CPU").helps[0].ok


def test_a_word_aligner_is_named_where_its_weights_are() -> None:
    path = f"{HUB}/models--Qwen--Qwen3-ForcedAligner-0.6B/snapshots/1"
    machine = FakeMachine(LOCAL | CPU, {f"{path}/config.json": "", f"{path}/a.safetensors": ""})
    details = [check.detail for check in use(machine, "CPU").helps if check.name == "word aligner"]
    assert details == ["for the times of words, without Japanese: --word-aligner Qwen/Qwen3-ForcedAligner-0.6B"]
    machine.files.clear()
    assert "word aligner" not in [check.name for check in use(machine, "CPU").helps]
