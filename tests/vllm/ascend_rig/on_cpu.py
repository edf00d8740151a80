"""What has to be changed in vLLM and vllm-ascend for a machine without their devices: each line, and why.

Everything else of theirs runs as it was released: platform, worker, model runner, scheduler, attention, encoder
attention, rotary embedding, sampler and patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """One line in a file; it is there exactly `times` times."""

    path: str
    old: str
    new: str
    times: int = 1


VLLM = (
    # A torch with CUDA and without its driver can't pin memory.
    Change(
        "utils/torch_utils.py",
        'PIN_MEMORY = "microsoft" not in " ".join(platform.uname()).lower()',
        "PIN_MEMORY = False",
    ),
)

VLLM_ASCEND = (
    # Tensors are on the CPU, and so are the operators that they are dispatched to.
    Change("platform.py", 'device_type: str = "npu"', 'device_type: str = "cpu"'),
    Change("platform.py", 'dispatch_key: str = "PrivateUse1"', 'dispatch_key: str = "CPU"'),
    Change("ops/linear.py", 'dispatch_key="PrivateUse1"', 'dispatch_key="CPU"'),
    Change("ops/mla.py", 'dispatch_key="PrivateUse1"', 'dispatch_key="CPU"'),
    Change("ops/dsa.py", '    dispatch_key="PrivateUse1"', '    dispatch_key="CPU"'),
    Change("ops/register_custom_ops.py", 'dispatch_key="PrivateUse1"', 'dispatch_key="CPU"', times=10),
    Change("worker/worker.py", 'torch.device(f"npu:{self.local_rank}")', 'torch.device("cpu")'),
    Change(
        "worker/worker.py",
        'torch.device(f"{current_platform.device_type}:{visible_device_index}")',
        "torch.device(current_platform.device_type)",
    ),
    Change("sample/sampler.py", 'device="npu"', 'device="cpu"'),
    # Processes talk over the CPU's library.
    Change("worker/worker.py", 'self.local_rank, "hccl"', 'self.local_rank, "gloo"'),
    # The platform as released pins memory; see above.
    Change(
        "platform.py",
        "def is_pin_memory_available(cls):\n        return True",
        "def is_pin_memory_available(cls):\n        return False",
    ),
    # A Triton kernel.
    Change(
        "worker/block_table.py",
        "from vllm.v1.worker.block_table import _compute_slot_mapping_kernel",
        "from torch_npu.operators import compute_slot_mapping as _compute_slot_mapping_kernel",
    ),
)


def apply(changes: tuple[Change, ...], package: Path) -> None:
    """Make changes in a package's folder. Those made before are left alone.

    Raises:
        ValueError: a file is not as expected; the message says which.
    """
    for change in changes:
        path = package / change.path
        source = path.read_text()
        found = source.count(change.old)
        if found == change.times:
            path.write_text(source.replace(change.old, change.new))
        elif found or change.new not in source:
            raise ValueError(f"{path} has {found} times, not {change.times} times: {change.old}")
