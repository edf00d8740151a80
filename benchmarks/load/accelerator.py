"""How busy the accelerators of this machine are while a run goes on, by `nvidia-smi`."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field

_COMMAND = "nvidia-smi"
_ARGUMENTS = ("--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--loop=1")
"""A line for each accelerator and second: its number, percent of the time that any kernel ran, MiB in use."""


@dataclass
class AcceleratorWatch:
    """Samples of all accelerators, whoever uses them."""

    busy: dict[str, list[float]] = field(default_factory=dict)
    """Percent of the time, by accelerator."""
    memory_mib: dict[str, list[float]] = field(default_factory=dict)

    @staticmethod
    def possible() -> bool:
        """Whether there is something to ask."""
        return shutil.which(_COMMAND) is not None

    async def watch(self) -> None:
        """Sample until cancelled."""
        asking = await asyncio.create_subprocess_exec(
            _COMMAND, *_ARGUMENTS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert asking.stdout is not None
        try:
            async for line in asking.stdout:
                self.take(line.decode(errors="replace"))
        finally:
            if asking.returncode is None:
                asking.terminate()
            await asking.wait()

    def take(self, line: str) -> None:
        """A line that `nvidia-smi` printed. What it does not know, as the use of a part of a GPU, is left out."""
        index, _, values = line.partition(",")
        for samples, value in zip((self.busy, self.memory_mib), values.split(","), strict=False):
            try:
                samples.setdefault(index.strip(), []).append(float(value))
            except ValueError:
                continue

    def figures(self) -> dict[str, dict[str, float | None]]:
        """By accelerator."""
        return {
            index: {
                "busy_percent_mean": sum(busy) / len(busy) if (busy := self.busy.get(index)) else None,
                "busy_percent_max": max(self.busy.get(index, ()), default=None),
                "memory_mib_max": max(memory, default=None),
            }
            for index, memory in self.memory_mib.items()
        }
