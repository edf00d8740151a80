"""What vLLM runs on here, as far as the best engine options depend on it."""

from __future__ import annotations

from enum import Enum


class Device(Enum):
    """A kind of device."""

    CPU = "CPU"
    GPU = "GPU"
    ASCEND = "Ascend NPU"
    """Atlas A2 and A3."""
    ASCEND_310P = "Ascend 310P"
    """Atlas 300I DUO: float16 only, and an attention mask that grows with the square of the positions."""


def device_here() -> Device:
    """The device of the vLLM that is installed. On Ascend its plug-in says which chips it was built for."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return Device.CPU
    if current_platform.device_name != "npu":
        return Device.GPU
    from vllm_ascend.utils import is_310p

    return Device.ASCEND_310P if is_310p() else Device.ASCEND
