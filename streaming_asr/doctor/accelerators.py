"""Checks of the hardware that Qwen3-ASR wants: Ascend NPUs with CANN, NVIDIA GPUs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from streaming_asr.doctor.checks import Check, is_of
from streaming_asr.doctor.machine import Machine
from streaming_asr.recognizers.vllm import versions

CANN_HOMES = ("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest")
"""Where CANN is installed by default: since 8.5, and before."""

NNAL_HOME = "/usr/local/Ascend/nnal/atb"
"""Where the operator library that vllm-ascend loads (libatb.so) is installed by default."""

_USE_IMAGE = f"use the image ascend/vllm-ascend:{versions.ASCEND_TAG}, which has it"

_NPU_ROW = re.compile(r"^\|\s*\d+\s+(?P<name>\w+)\s*\|\s*(?P<health>[A-Za-z]+)\s*\|")
_USE = re.compile(r"\|\s*(?P<busy>\d+)?\D[^|]*?(?P<used>\d+)\s*/\s*(?P<total>\d+)\s*\|\s*$")


@dataclass(frozen=True, slots=True)
class Npu:
    """One chip, as ``npu-smi info`` lists it."""

    name: str
    """``910B3``, ``310P3``; ``Ascend910`` is what the Atlas A3 calls its chips."""
    health: str
    """``OK``, ``Warning``, ``Alarm``, ``Critical``, …"""
    memory_mb: int | None
    """Total memory."""
    used_mb: int | None = None
    """Memory in use."""
    busy_percent: int | None = None
    """Of the time, its AI cores."""

    @property
    def family(self) -> str | None:
        """The family that vllm-ascend is built for, None where it isn't known."""
        families = {"910B": "A2", "Ascend910": "A3", "310P": "310P"}
        return next((family for start, family in families.items() if self.name.startswith(start)), None)


def parse_npus(text: str) -> list[Npu]:
    """The chips in the table of ``npu-smi info``: two lines for each, use and memory in the last cell of the second."""
    lines = text.splitlines()
    npus = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        row = _NPU_ROW.match(line)
        if row is None or row["health"] == "NA":
            continue
        use = _USE.search(following)
        total, used, busy = (use["total"], use["used"], use["busy"]) if use else (None, None, None)
        npus.append(Npu(row["name"], row["health"], _number(total), _number(used), _number(busy)))
    return npus


def _number(digits: str | None) -> int | None:
    return int(digits) if digits else None


def npus(machine: Machine) -> tuple[Check, list[Npu]]:
    """The Ascend NPUs that this machine, or this container, can use."""
    name = "Ascend NPU"
    devices = machine.glob("/dev/davinci[0-9]*")
    ran = machine.run("npu-smi", "info")
    if ran is None:
        if not devices:
            return Check(name, "absent", "no npu-smi and no /dev/davinci*"), []
        detail = f"{devices[0]} is here, npu-smi is not: mount it and the driver's libraries into the container"
        fix = (
            "docker run … -v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi -v /usr/local/dcmi:/usr/local/dcmi "
            "-v /usr/local/Ascend/driver:/usr/local/Ascend/driver"
        )
        return Check(name, "broken", detail, fix), []
    found = [] if ran.failed else parse_npus(ran.output)
    if not found:
        detail = f"npu-smi info lists no chip: {ran.last_line}"
        fix = (
            "docker run … --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm "
            "--device /dev/hisi_hdc (a device that no other container holds)"
        )
        return Check(name, "broken", detail, fix), []
    kinds = Counter((npu.name, npu.memory_mb) for npu in found)
    detail = ", ".join(f"{count} x {kind}{_gib(memory)}" for (kind, memory), count in kinds.items())
    sick = [f"chip {index} is {npu.health}" for index, npu in enumerate(found) if npu.health != "OK"]
    if len(sick) == len(found):
        return Check(name, "broken", f"{detail}; none is healthy: {sick[0]}", "npu-smi info -t health -i 0"), found
    return Check(name, "ok", "; ".join([detail, *sick])), found


def cann(machine: Machine) -> Check:
    """Ascend's toolkit: there, of the version vllm-ascend is built for, and in this shell's environment."""
    active = machine.environ("ASCEND_HOME_PATH") or machine.environ("ASCEND_TOOLKIT_HOME")
    homes = [active] if active else [home for home in CANN_HOMES if machine.glob(home)]
    if not homes:
        return Check("CANN", "missing", f"neither ASCEND_HOME_PATH nor {CANN_HOMES[0]}", _USE_IMAGE)
    version = _cann_version(machine, homes[0])
    if not machine.glob(homes[0]):
        return Check(
            "CANN", "broken", f"ASCEND_HOME_PATH names {homes[0]}, which isn't there", "unset ASCEND_HOME_PATH"
        )
    if version is not None and not is_of(version, versions.series(versions.CANN)):
        needed = f"vllm-ascend {versions.series(versions.VLLM_ASCEND)} is built for {versions.CANN}"
        return Check("CANN", "broken", f"{version} in {homes[0]}; {needed}", _USE_IMAGE)
    detail = f"{version or 'version not stated'} in {homes[0]}"
    if not active:
        # set_env.sh lies beside the version folder in older layouts.
        scripts = machine.glob(f"{homes[0]}/set_env.sh") or machine.glob("/usr/local/Ascend/ascend-toolkit/set_env.sh")
        fix = f"source {scripts[0] if scripts else f'{homes[0]}/set_env.sh'}"
        return Check("CANN", "broken", f"{detail}, but not in this shell's environment", fix)
    return Check("CANN", "ok", detail)


def nnal(machine: Machine) -> Check:
    """Ascend's transformer operators (libatb.so)."""
    home = machine.environ("ATB_HOME_PATH")
    if home is not None:
        return Check("NNAL", "ok", home)
    if machine.glob(f"{NNAL_HOME}/set_env.sh"):
        return Check("NNAL", "broken", "not in this shell's environment", f"source {NNAL_HOME}/set_env.sh")
    return Check("NNAL", "missing", f"no {NNAL_HOME}", _USE_IMAGE)


def gpus(machine: Machine) -> Check:
    """The NVIDIA GPUs that this machine, or this container, can use."""
    name = "NVIDIA GPU"
    ran = machine.run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    if ran is None:
        if not machine.glob("/dev/nvidia[0-9]*"):
            return Check(name, "absent", "no nvidia-smi and no /dev/nvidia*")
        detail = "/dev/nvidia* is here, nvidia-smi is not"
        return Check(name, "broken", detail, "docker run --gpus all … (with the NVIDIA container toolkit)")
    rows = [] if ran.failed else [row for row in map(_fields, ran.output.splitlines()) if len(row) == 3]
    if not rows:
        return Check(name, "broken", f"nvidia-smi lists no GPU: {ran.last_line}", "nvidia-smi")
    kinds = Counter((row[0], int(row[1]) if row[1].isdigit() else None) for row in rows)
    detail = ", ".join(f"{count} x {kind}{_gib(memory)}" for (kind, memory), count in kinds.items())
    return Check(name, "ok", f"{detail}, driver {rows[0][2]}")


def _cann_version(machine: Machine, home: str) -> str | None:
    for path in machine.glob(f"{home}/*-linux/ascend_toolkit_install.info"):
        stated = re.search(r"^version=(\S+)", machine.read(path) or "", re.MULTILINE)
        if stated is not None:
            return stated[1]
    return None


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _gib(memory_mb: int | None) -> str:
    return f" ({memory_mb / 1024:.0f} GiB)" if memory_mb else ""
