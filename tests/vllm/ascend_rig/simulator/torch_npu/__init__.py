"""torch-npu without an NPU.

A process with this folder's parent on its path imports it as torch-npu. Every name exists, so vllm-ascend's platform
configures as on an NPU. What Qwen3-ASR needs of the device is done on the CPU: `npu` has the device, `operators` the
operators. Anything else is a `MagicMock`.
"""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import MagicMock

import torch

from torch_npu import npu
from torch_npu.operators import (  # noqa: F401
    _npu_reshape_and_cache,
    npu_add_rms_norm,
    npu_fused_infer_attention_score,
    npu_rms_norm,
    npu_swiglu,
)

__version__ = "2.10.0.post4"

_C = MagicMock(name="torch_npu._C", _NPUTaskGroupHandle=MagicMock)
_PARTS = ("_C._distributed_c10d", "_inductor", "op_plugin", "op_plugin.atb", "op_plugin.atb._atb_ops", "profiler")
sys.modules |= {f"torch_npu.{part}": MagicMock(name=f"torch_npu.{part}") for part in _PARTS} | {"torch_npu._C": _C}

torch.utils.rename_privateuse1_backend("npu")
torch.npu = sys.modules["torch.npu"] = npu  # type: ignore[attr-defined]
torch.version.cann = None  # type: ignore[attr-defined]
torch.distributed.is_hccl_available = lambda: True  # type: ignore[attr-defined]
torch.accelerator.synchronize = npu.synchronize
torch.Tensor.npu = lambda tensor, *_, **__: tensor  # type: ignore[attr-defined]
# Memory is pinned for a device's copies; there is none, and without one torch refuses.
torch.Tensor.pin_memory = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
# A platform whose tensors are on the CPU asks torch.cpu for what it would ask torch.npu for.
for _name in npu.ASKED_OF_THE_CPU:
    setattr(torch.cpu, _name, getattr(npu, _name))


def npu_format_cast(tensor: torch.Tensor, layout: int) -> torch.Tensor:
    """The CPU has one layout."""
    return tensor


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=f"torch_npu.{name}")
