"""What a machine can be used for, and what to install where vLLM is missing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from streaming_asr.doctor import accelerators, checks, vllm_stack
from streaming_asr.doctor.checks import Check
from streaming_asr.doctor.machine import Machine
from streaming_asr.recognizers.vllm import versions

Standing = Literal["ready", "possible", "missing"]


@dataclass(frozen=True, slots=True)
class Use:
    """Something to run on a machine, with what it needs."""

    name: str
    needs: tuple[Check, ...]
    """All must be ok."""
    helps: tuple[Check, ...] = ()
    """Good to know, not needed to start."""
    start: str | None = None
    """The command that starts a server with it; None where it is not a recognizer."""

    @property
    def standing(self) -> Standing:
        """``ready`` now, ``possible`` after `fixes`, or ``missing`` because the hardware is not here."""
        if all(check.ok for check in self.needs):
            return "ready"
        return "missing" if any(check.state == "absent" for check in self.needs) else "possible"

    @property
    def fixes(self) -> tuple[str, ...]:
        """Commands that make it ready, in order, each once."""
        return tuple(dict.fromkeys(check.fix for check in self.needs if not check.ok and check.fix is not None))


def examine(machine: Machine) -> list[Use]:
    """All uses, the recognizers first and the most capable of those before the others."""
    npu, npus = accelerators.npus(machine)
    gpu = accelerators.gpus(machine)
    found = checks.qwen_found(machine)
    aligner = [check for check in [checks.word_aligner(machine)] if check is not None]
    python, vllm_python = checks.python(machine), checks.python(machine, versions.PYTHON)
    vad = checks.webrtcvad(machine)
    conflicts = vllm_stack.conflicts(machine, on_ascend=npu.state != "absent")
    serve = f"{machine.shown('streaming-asr')} serve"
    whisper, multilingual = checks.whisper_weights(machine), checks.multilingual_weights(machine)
    sizes = checks.QWEN_SIZES

    def under_vllm(
        name: str, python: Check, hardware: list[Check], vllm: list[Check], sizes: Sequence[str], *helps: Check
    ) -> Use:
        start = f"{serve} {shlex.quote(checks.qwen_model(found, sizes))}"
        if any(check.state == "absent" for check in hardware):
            return Use(name, tuple(hardware), start=start)
        weights = checks.qwen_weights(machine, found, sizes[0])
        return Use(name, (python, *hardware, *conflicts, *vllm, vad), (weights, *aligner, *helps), start)

    on_npu, npu_helps = [npu], []
    if npu.state != "absent":
        free = accelerators.device_memory(machine, npus, f"{serve} {shlex.quote(checks.qwen_model(found, sizes))}")
        on_npu += [accelerators.cann(machine), accelerators.nnal(machine), free]
        npu_helps = [accelerators.driver(machine), accelerators.shared_memory(machine, npus)]
    return [
        under_vllm("Qwen3-ASR on Ascend NPUs", python, on_npu, vllm_stack.ascend(machine, npus), sizes, *npu_helps),
        under_vllm("Qwen3-ASR on NVIDIA GPUs", vllm_python, [gpu], vllm_stack.cuda(machine), sizes),
        Use(
            "Whisper in this process",
            (python, checks.faster_whisper(machine), whisper, vad),
            () if multilingual.ok or not whisper.ok else (multilingual,),
            serve,
        ),
        under_vllm("Qwen3-ASR on CPU (slow)", vllm_python, [], vllm_stack.cpu(machine), sizes[::-1]),
        Use("Silero voice detection", (checks.silero(machine),)),
        Use("Microphone of this machine", (checks.microphone(machine),)),
    ]


def best(uses: list[Use]) -> Use | None:
    """The recognizer to start: the first that is ready."""
    return next((use for use in uses if use.start is not None and use.standing == "ready"), None)


def what_to_install(model: str, machine: Machine | None = None) -> str:
    """The message for a user whose model runs under vLLM, where vLLM is not installed.

    Args:
        model: as the user named it.
        machine: where to install; this one by default.
    """
    machine = machine or Machine()
    npu, gpu = accelerators.npus(machine)[0], accelerators.gpus(machine)
    image = f"in a checkout, where Docker is; the image is built on {vllm_stack.ASCEND_IMAGE}:"
    container = f"MODEL={shlex.quote(model)} {accelerators.START_CONTAINER}"
    ways = [
        (f"Ascend NPU{_here(npu)}", [image, container]),
        (f"NVIDIA GPU{_here(gpu)}", [checks.install(machine, "cuda")]),
        ("CPU, slow", vllm_stack.cpu_steps(machine)),
    ]
    if any(name in model.lower() for name in versions.NOT_ON_ASCEND):
        ways.pop(0)
    lines = [f"{model} runs under vLLM, which is not installed. For the hardware you have:", ""]
    for hardware, steps in ways:
        lines += [f"  {hardware}", *(f"    {step}" for step in steps), ""]
    if machine.python_version < versions.PYTHON:
        lines += ["vLLM for NVIDIA GPUs and CPU needs Python 3.11 or 3.12.", ""]
    streaming_asr = machine.shown("streaming-asr")
    lines += [
        f"Or start with a small Whisper that needs none of this: {streaming_asr} serve",
        f"What this machine has and lacks: {streaming_asr} doctor",
    ]
    return "\n".join(lines)


def _here(hardware: Check) -> str:
    return f" (here: {hardware.detail})" if hardware.ok else ""
