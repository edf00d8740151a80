"""What a run is doing, on the terminal, while it goes on."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.common.session_log import Outcome
from benchmarks.load.crowd import Run

_EVERY_S = 0.5
_RECENT = 200
"""Chunks of each open session whose lag is shown."""


async def show_progress(run: Run, console: Console) -> None:
    """Keep a line about the run up to date until cancelled."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[status]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{run.plan.streams} streams", total=1.0, status="")
        began = time.perf_counter()
        while True:
            progress.update(task, completed=_done(run, time.perf_counter() - began), status=_status(run))
            await asyncio.sleep(_EVERY_S)


def _done(run: Run, now: float) -> float:
    """The share of the run that is over."""
    if run.plan.duration_s is not None:
        return min(1.0, now / max(run.full_s + run.plan.duration_s, 1e-9))
    return sum(take.ended for take in run.takes) / max(run.wanted, 1)


def _status(run: Run) -> str:
    outcomes = run.outcomes()
    lag = np.concatenate(
        [np.empty(0), *(np.array(take.departures.lag_s[-_RECENT:]) for take in run.takes if not take.ended)]
    )
    parts = [f"{run.open} open", f"{outcomes[Outcome.DONE]} done"]
    parts += [f"[red]{outcomes[bad]} {bad.value}[/red]" for bad in (Outcome.REFUSED, Outcome.FAILED) if outcomes[bad]]
    if len(lag):
        parts.append(f"own lag p99 {np.percentile(lag, 99) * 1000:.0f} ms")
    return ", ".join(parts)
