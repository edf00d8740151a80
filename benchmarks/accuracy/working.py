"""Many clips, some at a time, with progress; what is done stays when the rest is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.common.interruption import heed_sigterm

T = TypeVar("T")


async def work_through(
    items: Sequence[T],
    at_once: int,
    work: Callable[[T], Awaitable[None]],
    *,
    title: str,
    console: Console | None = None,
) -> None:
    """Do `work` on all items, in order, `at_once` at a time.

    Args:
        work: keeps its own results; an exception ends everything.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    waiting = iter(items)
    with Progress(*columns, *times, console=console or Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=len(items))

        async def worker() -> None:
            for item in waiting:
                await work(item)
                progress.advance(task)

        workers = [asyncio.create_task(worker()) for _ in range(at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for one in workers:
                one.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


def finished(run: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run to the end, or until Ctrl-C or SIGTERM; returns whether it came to the end."""
    heed_sigterm()
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())
        return True
    return False
