"""What each replica gets of the machine: devices, cores, memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from streaming_asr.core.options import OptionError
from streaming_asr.server.memory import default_limit
from streaming_asr.server.options import ServerOptions

DEVICES = {"ASCEND_RT_VISIBLE_DEVICES": r"davinci\d+", "CUDA_VISIBLE_DEVICES": r"nvidia\d+"}
"""The variable that limits a process to some devices -> names of the devices in /dev. The first kind that is here is
shared out."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of one replica."""

    environment: Mapping[str, str]
    """Variables that its process gets besides those of the supervisor."""
    cores: tuple[int, ...] = ()
    """The only cores that it may use; empty: all."""
    what: str = ""
    """For the log."""


def share_out(
    count: int, environment: Mapping[str, str], cores: Iterable[int], folder: Path = Path("/dev")
) -> list[Share]:
    """The shares of all replicas: of the devices, or of the cores where there are none.

    Args:
        environment: of the supervisor; a variable of `DEVICES` that is set lists the devices to use, or none.
        cores: that may be used, those close to each other side by side.
        folder: where the system lists devices.

    Raises:
        OptionError: the devices can't be divided evenly.
    """
    cores = tuple(cores)
    threads = {} if "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": str(max(1, len(cores) // count))}
    for variable, pattern in DEVICES.items():
        devices = _devices(environment.get(variable), folder, pattern)
        if not devices:
            continue
        if len(devices) % count:
            raise OptionError(
                "replicas",
                f"{len(devices)} devices can't be divided evenly among {count} replicas; set {variable} to those to "
                "use, or to nothing to use none",
            )
        each = len(devices) // count
        parts = [",".join(devices[start : start + each]) for start in range(0, len(devices), each)]
        return [Share({**threads, variable: part}, (), f" with {variable}={part}") for part in parts]
    if len(cores) < count:
        return [Share(threads) for _ in range(count)]
    bounds = [len(cores) * number // count for number in range(count + 1)]
    parts_of_cores = [cores[start:end] for start, end in pairwise(bounds)]
    return [Share(threads, part, f" on cores {_ranges(part)}") for part in parts_of_cores]


def usable_cores(topology: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """The cores that this process may use: those of a socket side by side, and both threads of a core."""

    def place(core: int) -> tuple[int, int, int]:
        folder = topology / f"cpu{core}" / "topology"
        return _number(folder / "physical_package_id"), _number(folder / "core_id"), core

    return sorted(os.sched_getaffinity(0), key=place)


def share_limits(options: ServerOptions, count: int) -> ServerOptions:
    """The options of one replica: of the limits on memory and disk it has its part, of all others the whole."""
    memory = options.max_memory_mib or (default_limit() or 0) >> 20
    return options.changed(
        max_memory_mib=_part(memory, count),
        max_parked_mib=_part(options.max_parked_mib, count),
        max_kept_bytes=max(1_000, options.max_kept_bytes // count),
    )


def _part(whole: int, count: int) -> int:
    """Not 0, which would mean something else, unless the whole is."""
    return max(1, whole // count) if whole else 0


def _devices(given: str | None, folder: Path, pattern: str) -> list[str]:
    if given is not None:
        return [device.strip() for device in given.split(",") if device.strip()]
    try:
        found = [name for name in os.listdir(folder) if re.fullmatch(pattern, name)]
    except OSError:
        return []
    # Processes count the devices that they can reach from 0, whatever their names.
    return [str(number) for number in range(len(found))]


def _ranges(cores: Iterable[int]) -> str:
    """``0-3,8`` for 0, 1, 2, 3, 8."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
