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

START_CONTAINER = "docker compose -f docker/compose.ascend.yaml up --detach --wait"
"""In a checkout of this project: builds the image where there is none yet, and starts it."""

RUN_CUDA = "docker run --gpus all --shm-size 2g -p 127.0.0.1:8000:8000 -e STREAMING_ASR_API_KEYS=KEY streaming-asr:cuda"

DRIVER_INFO = "/usr/local/Ascend/driver/version.info"

GPU_MEMORY_UTILIZATION = 0.9
"""Share of a device's memory that vLLM takes by default, and that must be free when it starts."""
SMALLEST_SHARE = 0.3
"""Of a device of 21 GB or more: room for the 1.7B, its activations and some positions."""

SHARED_GIB = {"310P": 10.0}
"""Shared memory that the vendor's guide gives containers, by family; 1 GiB on others."""

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
        detail = f"{devices[0]} is here, npu-smi is not; the Compose file mounts it and the driver into the container"
        return Check(name, "broken", detail, START_CONTAINER), []
    found = [] if ran.failed else parse_npus(ran.output)
    if not found:
        detail = f"npu-smi info lists no chip: {ran.last_line}; NPU=1, 2, … names one that no other container holds"
        return Check(name, "broken", detail, f"NPU=1 {START_CONTAINER}"), []
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
        detail = f"neither ASCEND_HOME_PATH nor {CANN_HOMES[0]}; the container has it"
        return Check("CANN", "missing", detail, START_CONTAINER)
    version = _cann_version(machine, homes[0])
    if not machine.glob(homes[0]):
        return Check(
            "CANN", "broken", f"ASCEND_HOME_PATH names {homes[0]}, which isn't there", "unset ASCEND_HOME_PATH"
        )
    if version is not None and not is_of(version, versions.series(versions.CANN)):
        needed = f"vllm-ascend {versions.series(versions.VLLM_ASCEND)} is built for {versions.CANN}"
        return Check("CANN", "broken", f"{version} in {homes[0]}; {needed}, as the container has", START_CONTAINER)
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
    return Check("NNAL", "missing", f"no {NNAL_HOME}; the container has it", START_CONTAINER)


def driver(machine: Machine) -> Check:
    """The driver of the NPUs, which the host has and containers mount."""
    name = "NPU driver"
    stated = re.search(r"^Version=(\d+\.\d+\S*)", machine.read(DRIVER_INFO) or "", re.MULTILINE)
    if stated is None:
        return Check(name, "missing", f"{DRIVER_INFO} names no version")
    if versions.number(stated[1]) < versions.number(versions.ASCEND_DRIVER):
        detail = f"{stated[1]}; CANN {versions.series(versions.CANN)} is known to run with {versions.ASCEND_DRIVER}"
        return Check(name, "broken", f"{detail} or later: update driver and firmware on the host if it fails")
    return Check(name, "ok", stated[1])


def device_memory(machine: Machine, npus: list[Npu], serve: str) -> Check:
    """Whether the chip that vLLM takes, the first it may see, has free what vLLM wants.

    Args:
        serve: the command that starts a server.
    """
    name = "device memory"
    visible = machine.environ("ASCEND_RT_VISIBLE_DEVICES")
    chosen = [int(index) for index in (visible or "").split(",") if index.strip().isdigit()] or range(len(npus))
    free = {
        index: 1 - npus[index].used_mb / npus[index].memory_mb  # type: ignore[operator]
        for index in chosen
        if index < len(npus) and npus[index].memory_mb and npus[index].used_mb is not None
    }
    if not free:
        return Check(name, "ok", "not stated")
    first, share = next(iter(free.items()))
    detail = f"{share:.0%} of chip {first} is free"
    if share >= GPU_MEMORY_UTILIZATION:
        return Check(name, "ok", detail)
    detail = f"{detail}; vLLM takes {GPU_MEMORY_UTILIZATION:.0%} by default"
    other = next((index for index, share in free.items() if share >= GPU_MEMORY_UTILIZATION), None)
    if other is not None:
        return Check(name, "broken", f"{detail}, and chip {other} has it", f"export ASCEND_RT_VISIBLE_DEVICES={other}")
    if share >= SMALLEST_SHARE:
        return Check(name, "broken", detail, f"{serve} --gpu-memory-utilization {int(share * 100) / 100}")
    return Check(name, "broken", f"{detail}; npu-smi lists what uses it", "npu-smi info")


def shared_memory(machine: Machine, npus: list[Npu]) -> Check:
    """The size of /dev/shm. Docker's default, 64 MB, is too little for vLLM."""
    needed = max((SHARED_GIB.get(npu.family or "", 1.0) for npu in npus), default=1.0)
    size = machine.size_gib("/dev/shm")
    if size is None or size >= 0.99 * needed:
        return Check("/dev/shm", "ok", "not there" if size is None else f"{size:.1f} GiB")
    detail = f"{size:.2f} GiB; the vendor's guide has {needed:.0f}. The Compose file sets it"
    return Check("/dev/shm", "broken", detail, START_CONTAINER)


def gpus(machine: Machine) -> Check:
    """The NVIDIA GPUs that this machine, or this container, can use."""
    name = "NVIDIA GPU"
    ran = machine.run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    if ran is None:
        if not machine.glob("/dev/nvidia[0-9]*"):
            return Check(name, "absent", "no nvidia-smi and no /dev/nvidia*")
        detail = "/dev/nvidia* is here, nvidia-smi is not"
        detail += "; a container needs --gpus all, and the host the NVIDIA container toolkit"
        build = "docker build -f docker/Dockerfile.cuda -t streaming-asr:cuda ."
        return Check(name, "broken", detail, f"{build}\n{RUN_CUDA}")
    rows = [] if ran.failed else [row for row in map(_fields, ran.output.splitlines()) if len(row) == 3]
    if not rows:
        return Check(name, "broken", f"nvidia-smi lists no GPU: {ran.last_line}", "nvidia-smi")
    kinds = Counter((row[0], int(row[1]) if row[1].isdigit() else None) for row in rows)
    detail = ", ".join(f"{count} x {kind}{_gib(memory)}" for (kind, memory), count in kinds.items())
    return Check(name, "ok", f"{detail}, driver {rows[0][2]}")


def _cann_version(machine: Machine, home: str) -> str | None:
    # CANN 9 has it in files of other names than the releases before.
    for file in ("toolkit", "all_cann", "ops"):
        for path in machine.glob(f"{home}/*-linux/ascend_{file}_install.info"):
            stated = re.search(r"^version=(\S+)", machine.read(path) or "", re.MULTILINE)
            if stated is not None:
                return stated[1]
    return None


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _gib(memory_mb: int | None) -> str:
    return f" ({memory_mb / 1024:.0f} GiB)" if memory_mb else ""
