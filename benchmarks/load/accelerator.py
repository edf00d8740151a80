"""How busy the accelerators of this machine are while a run goes on, by `nvidia-smi` or Ascend's `npu-smi`."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field

from streaming_asr.doctor.accelerators import parse_npus

_NVIDIA, _ASCEND = "nvidia-smi", "npu-smi"
_ARGUMENTS = ("--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits", "--loop=1")
"""A line for each accelerator and second: its number, percent of the time that any kernel ran, MiB in use."""
_PAUSE_S = 1.0
_ANSWERS_WITHIN_S = 10.0
"""`npu-smi` asks each chip in turn."""


@dataclass
class AcceleratorWatch:
    """Samples of all accelerators, whichever process uses them."""

    busy: dict[str, list[float]] = field(default_factory=dict)
    """Percent of the time, by accelerator."""
    memory_mib: dict[str, list[float]] = field(default_factory=dict)

    @staticmethod
    def possible() -> bool:
        """Whether there is something to ask."""
        return any(shutil.which(command) for command in (_NVIDIA, _ASCEND))

    async def watch(self) -> None:
        """Sample until cancelled."""
        if shutil.which(_NVIDIA):
            await self._watch_gpus()
        else:
            await self._watch_npus()

    async def _watch_gpus(self) -> None:
        asking = await asyncio.create_subprocess_exec(
            _NVIDIA, *_ARGUMENTS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert asking.stdout is not None
        try:
            async for line in asking.stdout:
                self.take(line.decode(errors="replace"))
        finally:
            if asking.returncode is None:
                asking.terminate()
            await asking.wait()

    async def _watch_npus(self) -> None:
        while True:
            asking = await asyncio.create_subprocess_exec(
                _ASCEND, "info", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                output, _ = await asyncio.wait_for(asking.communicate(), _ANSWERS_WITHIN_S)
                self.take_table(output.decode(errors="replace"))
            except asyncio.TimeoutError:
                pass
            finally:
                if asking.returncode is None:
                    asking.kill()
                    await asking.wait()
            await asyncio.sleep(_PAUSE_S)

    def take_table(self, table: str) -> None:
        """What `npu-smi info` printed. Chips are numbered from 0 in its order, as vLLM does."""
        for index, npu in enumerate(parse_npus(table)):
            for samples, value in ((self.busy, npu.busy_percent), (self.memory_mib, npu.used_mb)):
                if value is not None:
                    samples.setdefault(str(index), []).append(float(value))

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
