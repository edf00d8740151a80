"""vLLM's options on our command line, and which form the audio takes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import PretrainedConfig
from vllm import platforms

from streaming_asr import cli
from streaming_asr.core.recognizer import RecognizerUnavailable
from streaming_asr.recognizers.vllm.compat import untested, version
from streaming_asr.recognizers.vllm.models.qwen3_audio import Form, Geometry, choose_form
from streaming_asr.recognizers.vllm.models.registry import MODULES, model_type
from streaming_asr.recognizers.vllm.options import engine_help, parse_engine_options, refuse_unfit, served_names
from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer
from tests.support.containers import compose, dockerfile, kubernetes

MODEL = "Qwen/Qwen3-ASR-1.7B"
PLATFORM = platforms.current_platform


def parse(*options: str) -> Any:
    return parse_engine_options(MODEL, options, model_type("qwen3_asr").engine_options)


def test_the_deployment_guides_line_is_understood() -> None:
    line = "--tensor-parallel-size 1 --max-model-len 4096 --gpu-memory-utilization 0.9 --enforce-eager"
    arguments = parse(*line.split())
    assert arguments.model == MODEL
    assert arguments.tensor_parallel_size == 1
    assert arguments.max_model_len == 4096
    assert arguments.gpu_memory_utilization == 0.9
    assert arguments.enforce_eager


def test_the_300i_duos_line_is_understood() -> None:
    arguments = parse(
        "--dtype=float16",
        '--additional-config={"ascend_compilation_config": {"fuse_norm_quant": false}}',
        '--compilation-config={"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": [1, 4]}',
    )
    assert arguments.dtype == "float16"
    assert arguments.additional_config == {"ascend_compilation_config": {"fuse_norm_quant": False}}
    assert arguments.compilation_config.cudagraph_capture_sizes == [1, 4]


def test_data_parallel_options_over_several_nodes_are_understood() -> None:
    arguments = parse(
        "--data-parallel-size=4",
        "--data-parallel-size-local=2",
        "--data-parallel-address=10.0.0.1",
        "--data-parallel-backend=ray",
    )
    assert (arguments.data_parallel_size, arguments.data_parallel_size_local) == (4, 2)
    assert arguments.data_parallel_backend == "ray"


def test_spellings_that_vllm_takes_are_taken() -> None:
    assert parse("--max_model_len", "1k").max_model_len == 1000
    assert parse("--limit-mm-per-prompt.audio", "8").limit_mm_per_prompt == {"audio": 8}


def test_our_defaults_hold_until_the_user_says_otherwise() -> None:
    assert parse().scheduling_policy == "priority"
    assert parse().limit_mm_per_prompt == {"audio": 32}
    changed = parse("--scheduling-policy=fcfs", "--no-enable-prefix-caching", "--mm-processor-cache-gb=1")
    assert changed.scheduling_policy == "fcfs"
    assert changed.enable_prefix_caching is False
    assert changed.mm_processor_cache_gb == 1


def test_blocks_on_a_cpu_are_smaller_than_a_window() -> None:
    assert model_type("qwen3_asr").options_here()["block_size"] < 104


class _Npu:
    """vllm-ascend's platform, as far as the choice of options needs it."""

    device_name = "npu"

    def is_cpu(self) -> bool:
        return False


@pytest.fixture
def on_npu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM on an Ascend NPU: a 310P where the parameter is true. Options are parsed by the vLLM that is here."""
    utils = ModuleType("vllm_ascend.utils")
    utils.is_310p = lambda: request.param  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm_ascend", ModuleType("vllm_ascend"))
    monkeypatch.setitem(sys.modules, "vllm_ascend.utils", utils)
    monkeypatch.setattr(platforms, "current_platform", _Npu())


def parse_here(*options: str) -> Any:
    declared = model_type("qwen3_asr").options_here()
    with pytest.MonkeyPatch.context() as patched:
        # Parsing asks the platform that is really here for its defaults.
        patched.setattr(platforms, "current_platform", PLATFORM)
        return parse_engine_options(MODEL, options, declared)


@pytest.mark.parametrize("on_npu", [True], indirect=True)
def test_a_300i_duo_gets_a_type_a_length_and_graphs_that_it_can_run(on_npu: None) -> None:
    for arguments in (parse_here(), parse_here("--tensor-parallel-size=1", "--gpu-memory-utilization=0.9")):
        assert arguments.dtype == "float16"
        assert arguments.max_model_len == 4096
        assert arguments.compilation_config.cudagraph_mode.name == "FULL_DECODE_ONLY"
        assert arguments.compilation_config.cudagraph_capture_sizes == [1, 4]
        assert arguments.additional_config["ascend_compilation_config"]["fuse_norm_quant"] is False
    assert parse_here("--max-model-len=2048", "--dtype=float32").dtype == "float32", "the user's options come first"


@pytest.mark.parametrize("on_npu", [False], indirect=True)
def test_an_atlas_a2_or_a3_keeps_the_checkpoints_type_and_the_vendors_length(on_npu: None) -> None:
    arguments = parse_here()
    assert (arguments.dtype, arguments.max_model_len, arguments.enforce_eager) == ("auto", 4096, False)
    assert "block_size" not in model_type("qwen3_asr").options_here(), "vllm-ascend fixes 128"


def test_served_names_are_aliases_of_the_model() -> None:
    assert served_names(parse()) == ()
    assert served_names(parse("--served-model-name", "qwen3-asr", "asr")) == ("qwen3-asr", "asr")


def test_an_option_that_spoils_log_probabilities_is_refused() -> None:
    refuse_unfit(parse('--additional-config={"enable_reduce_sample": false}'))
    with pytest.raises(ValueError, match="enable_reduce_sample"):
        refuse_unfit(parse('--additional-config={"enable_reduce_sample": true}'))


def test_a_model_that_can_not_be_fetched_says_where_else_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*given: object, **more: object) -> None:
        raise OSError("We couldn't connect to the hub.")

    monkeypatch.setattr(PretrainedConfig, "get_config_dict", unreachable)
    with pytest.raises(RecognizerUnavailable, match=r"connect to the hub\. .*the folder.*VLLM_USE_MODELSCOPE=True"):
        VllmRecognizer(MODEL)._prepare()
    with pytest.raises(RecognizerUnavailable) as folder:
        VllmRecognizer(str(tmp_path))._prepare()
    assert "MODELSCOPE" not in str(folder.value)


def test_a_vllm_that_was_never_tested_gets_a_warning_not_a_refusal() -> None:
    assert untested(version()) is None
    assert untested((0, 23)) is None
    assert "vLLM 0.99 was not tested" in str(untested((0, 99)))


@pytest.mark.parametrize("name", ["compose", "Dockerfile.ascend", "Dockerfile.cuda", "Dockerfile.cpu", "kubernetes"])
def test_vllm_takes_what_the_containers_give_it(name: str) -> None:
    if name == "compose":
        command = compose(environment={"OPTIONS": "--enforce-eager --served-model-name qwen3-asr"})["command"]
    elif name == "kubernetes":
        (container,) = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"]
        command = container["args"]
    else:
        command = [*(dockerfile(name).entrypoint or []), *dockerfile(name).command]
    _, engine = cli._parser().parse_known_args(command[1:])
    assert parse(*engine).model == MODEL


@pytest.mark.parametrize("name", MODULES)
def test_vllm_takes_the_options_of_every_model(name: str) -> None:
    parse_engine_options(MODEL, (), model_type(name).options_here())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tensor-paralel-size", "2"), "unrecognized arguments: --tensor-paralel-size"),
        (("--max-model-len", "long"), "max-model-len"),
        (("--dtype", "float128"), "invalid choice"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(options: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(*options)


def test_help_has_every_option() -> None:
    text = engine_help()
    assert all(option in text for option in ("--tensor-parallel-size", "--data-parallel-backend", "--kv-cache-dtype"))


def test_the_form_falls_back_as_far_as_it_must() -> None:
    async def refuses(prompt: dict[str, Any]) -> Any:
        raise ValueError("no such input")

    form, reason = asyncio.run(choose_form(Geometry(128, 800), lambda items: [0] * items, refuses))
    assert form is Form.WHOLE
    assert reason.count("no such input") == 2


def test_a_checkpoint_without_windows_is_decoded_whole_without_a_try() -> None:
    async def never(prompt: dict[str, Any]) -> Any:
        raise AssertionError("nothing should be rendered")

    geometry = Geometry(128, 0, "its encoder attends everywhere")
    assert asyncio.run(choose_form(geometry, lambda items: [], never)) == (Form.WHOLE, geometry.reason)
