"""``torch.npu``: an Atlas A2 whose memory is never short and whose streams are all in step."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

GIB = 1 << 30
MEMORY = 64 * GIB
DEVICES = 2
A2 = 223
"""A system-on-chip version of that family."""

ASKED_OF_THE_CPU = (
    "current_device",
    "empty_cache",
    "get_device_properties",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "set_device",
)


class Stream:
    """What is queued here is done at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass

    def wait_event(self, event: Event) -> None:
        pass

    def record_event(self, event: Event | None = None) -> Event:
        return event or Event()

    def synchronize(self) -> None:
        pass


class Event:
    """It has happened."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def wait(self, *_: Any) -> None:
        pass

    def reset(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        return 0.0


ExternalEvent = Event


def is_available() -> bool:
    return True


def device_count() -> int:
    return DEVICES


def current_device() -> int:
    return 0


def set_device(device: Any) -> None:
    pass


def get_device_name(*_: Any) -> str:
    return "Ascend910B3"


def get_soc_version() -> int:
    return A2


def get_device_properties(*_: Any) -> Any:
    return SimpleNamespace(
        name=get_device_name(), total_memory=MEMORY, cube_core_num=24, vector_core_num=48, uuid="simulated"
    )


def mem_get_info(*_: Any) -> tuple[int, int]:
    """Free and total bytes."""
    return MEMORY, MEMORY


def memory_stats(*_: Any) -> dict[str, int]:
    return {"allocated_bytes.all.peak": GIB}


def memory_allocated(*_: Any) -> int:
    return GIB


max_memory_allocated = memory_reserved = memory_allocated


def reset_peak_memory_stats(*_: Any) -> None:
    pass


def empty_cache() -> None:
    pass


def synchronize(*_: Any) -> None:
    pass


def current_stream(*_: Any) -> Stream:
    return Stream()


default_stream = current_stream


def stream(which: Stream) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=f"torch.npu.{name}")
