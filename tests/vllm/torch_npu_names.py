"""torch-npu without an NPU: all its names exist, and nothing computes. As much as vllm-ascend's platform asks for.

`write` makes a folder with the modules; a process with it on its path imports them as torch-npu's.
"""

from __future__ import annotations

from pathlib import Path

_TORCH_NPU = """
import sys
from unittest.mock import MagicMock

import torch

__version__ = "2.10.0.post4"
npu = MagicMock(name="torch_npu.npu")
_C = MagicMock(name="torch_npu._C", _NPUTaskGroupHandle=MagicMock)
_PARTS = ("_C._distributed_c10d", "_inductor", "op_plugin", "op_plugin.atb", "op_plugin.atb._atb_ops", "profiler")
sys.modules |= {f"torch_npu.{part}": MagicMock() for part in _PARTS} | {"torch_npu.npu": npu, "torch_npu._C": _C}
torch.utils.rename_privateuse1_backend("npu")
torch.npu = npu
torch.version.cann = None
torch.distributed.is_hccl_available = lambda: True
npu.Stream = MagicMock
npu.device_count = lambda: 1
npu.is_available = lambda: True
npu.get_device_name = lambda *which: "Ascend910B3"
npu.mem_get_info = lambda *which: (64 << 30, 64 << 30)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=f"torch_npu.{name}")
"""

_ACL = """
def __getattr__(name):
    from unittest.mock import MagicMock
    return MagicMock(name=f"acl.{name}")
"""


def write(folder: Path) -> Path:
    """Write the modules into a folder, and return it."""
    for name, source in (("torch_npu", _TORCH_NPU), ("acl", _ACL)):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(source)
    return folder
