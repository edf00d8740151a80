"""What the doctor says to type, on machines of every kind: each line is right."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from streaming_asr import cli
from streaming_asr.doctor.machine import Ran
from streaming_asr.doctor.uses import examine
from streaming_asr.recognizers.vllm import versions
from tests.support.fake_machine import ASCEND, CPU, CUDA, LOCAL, FakeMachine, ascend_machine, cuda_machine
from tests.support.npu_smi import A2_TABLE, A3_TABLE, DUO_TABLE

ROOT = Path(__file__).parents[2]


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
