"""A child process on a core of its own, that is asked questions over a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any

END_WITHIN_S = 10.0
"""A child that has not ended this long after it was asked to is killed."""
_PAGE = resource.getpagesize()


class ChildFailed(Exception):
    """A child process ended, or did not answer. The message says which."""


class Child:
    """A spawned process; use as a context manager.

    Args:
        name: for messages.
        main: what it runs, with its end of the pipe and `arguments`.
    """

    def __init__(self, name: str, main: Callable[..., None], *arguments: object) -> None:
        self._name = name
        self._pipe, theirs = multiprocessing.Pipe()
        spawning = multiprocessing.get_context("spawn")
        self._process = spawning.Process(target=main, args=(theirs, *arguments), name=name, daemon=True)
        self._process.start()
        # Ours must be the only other end, or the child would never see it close.
        theirs.close()

    def ask(self, question: object, within_s: float = 60.0) -> Any:
        """Send a question and wait for its answer.

        Raises:
            ChildFailed: it ended, or the time is over.
        """
        try:
            self._pipe.send(question)
            if not self._pipe.poll(within_s):
                raise ChildFailed(f"the {self._name} gave no answer within {within_s:g} s")
            return self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(1)
            raise ChildFailed(f"the {self._name} ended with status {self._process.exitcode}") from None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(END_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def answer(pipe: Connection, reply: Callable[[Any], Any], ended: Callable[[], None]) -> None:
    """In the child, on its running loop: answer each question with `reply`; call `ended` when the pipe closes."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        try:
            pipe.send(reply(pipe.recv()))
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            ended()

    loop.add_reader(pipe.fileno(), readable)
    # uvloop makes what it watches non-blocking; a long answer must be written whole.
    os.set_blocking(pipe.fileno(), True)


def settle_on(core: int) -> None:
    """Pin this process to a core, and let it open as many sockets as it may."""
    os.sched_setaffinity(0, {core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A limit of "unlimited" may be more than the kernel lets a process ask for.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on the same event loop as the server's command line does."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def resident_bytes() -> int:
    """Memory that this process has now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * _PAGE


def core_busy_s(core: int) -> tuple[float, float]:
    """Seconds that a core was busy since the machine started, by all processes; and those that a hypervisor took."""
    with open("/proc/stat") as stat:
        fields = next(line.split() for line in stat if line.startswith(f"cpu{core} "))
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq, steal = (int(field) / tick for field in fields[1:9])
    return user + nice + system + irq + softirq, steal


def cpu_clock() -> tuple[float, float]:
    """(CPU seconds of this process, wall seconds), both from moments of their own."""
    return time.process_time(), time.perf_counter()
