"""Our requirements fit the packages of the image that ours is built on, which stay as they are.

`ascend_base.txt` is what that image has, as far as it can be known without the image; its first lines say how it was
made.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FREEZE = Path(__file__).with_name("ascend_base.txt")
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
"""Tags of wheels that Ubuntu 22.04 takes."""


def base() -> dict[str, str]:
    """The versions in the image, by normalized name."""
    lines = [line for line in FREEZE.read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pins.items()}


def ours() -> list[Requirement]:
    """What the image's Dockerfile installs: the project with the extras `turns` and `otel`."""
    project = tomllib.loads((FREEZE.parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in (*project["dependencies"], *extras["turns"], *extras["otel"])]


def test_no_requirement_of_ours_contradicts_a_package_of_the_base() -> None:
    """Also none of those that we bring: their requirements are those of the releases that are installed here."""
    pinned = base()
    missing, seen = ours(), set()
    while missing:
        requirement = missing.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        if name in pinned:
            assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement}: {pinned[name]}"
            continue
        seen.add(name)
        try:
            missing += map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue  # Not in this environment, as onnxruntime where only the quick tests run.
    assert "soxr" in seen | set(pinned)


@pytest.mark.full
@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_pip_resolves_our_requirements_against_the_base(tmp_path: Path, machine: str) -> None:
    """As the Dockerfile's pip does; with wheels alone, so nothing has to be compiled in the image."""
    wheels = [f"--platform={platform}_{machine}" for platform in PLATFORMS]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary=:all:"]
    target = ["--target", str(tmp_path), f"--python-version={PYTHON}", *wheels]
    # Of the base only the pins count: what it already has need not be resolved again.
    names = [str(requirement) for requirement in ours() if canonicalize_name(requirement.name) not in base()]
    ran = subprocess.run(
        [*command, *target, "--constraint", str(FREEZE), *names], capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "Would install" in ran.stdout
