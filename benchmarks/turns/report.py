"""Figures of a run as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common.stats import percentiles
from benchmarks.turns.decided import Decisions
from benchmarks.turns.sweep import (
    CUTOFF_BUDGETS,
    LATENCY_BUDGETS_S,
    Point,
    Scored,
    counted,
    fewest_cutoffs,
    frontier,
    least_latency,
    silence_sweep,
    sweep,
)

BASELINE = "silence"
_MOST_LEFT_OUT = 5
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Swept:
    """All policies on the scores of one system."""

    name: str
    points: list[Point]

    def cells(self) -> list[str]:
        """Cut-offs at each latency budget, then latency at each cut-off budget."""
        rates = [fewest_cutoffs(self.points, budget) for budget in LATENCY_BUDGETS_S]
        waits = [least_latency(self.points, budget) for budget in CUTOFF_BUDGETS]
        return [
            *(f"{point.cutoff_rate:.1%}" if point else _NONE for point in rates),
            *(f"{1000 * point.mean_latency_s:.0f} ms" if point else _NONE for point in waits),
        ]

    def as_json(self) -> dict[str, Any]:
        rates = {f"{budget:g}_s": fewest_cutoffs(self.points, budget) for budget in LATENCY_BUDGETS_S}
        waits = {f"{budget:g}": least_latency(self.points, budget) for budget in CUTOFF_BUDGETS}
        return {
            "name": self.name,
            "fewest_cutoffs_at_latency": {budget: point and point.as_json() for budget, point in rates.items()},
            "least_latency_at_cutoffs": {budget: point and point.as_json() for budget, point in waits.items()},
            "frontier": [point.as_json() for point in frontier(self.points)],
        }


def swept(silences: Sequence[Scored], judged: Iterable[tuple[str, Sequence[Scored]]]) -> list[Swept]:
    """The baseline, then every system whose scores are known."""
    return [Swept(BASELINE, silence_sweep(silences)), *(Swept(name, sweep(scored)) for name, scored in judged)]


def show(
    title: str,
    silences: Sequence[Scored],
    systems: Sequence[Swept],
    decided: Sequence[Decisions],
    left_out: Sequence[str],
    console: Console,
) -> None:
    """Both tables, then what was left out."""
    pauses, ends = counted(silences)
    console.print(_swept_table(f"{title}: {len(pauses)} pauses in {len(ends)} turns", systems))
    if decided:
        console.print(_decided_table(decided))
    for reason in left_out[:_MOST_LEFT_OUT]:
        console.print(f"left out: {reason}", style="yellow", markup=False)
    if len(left_out) > _MOST_LEFT_OUT:
        console.print(f"and {len(left_out) - _MOST_LEFT_OUT} more were left out", style="yellow")


def _swept_table(title: str, systems: Sequence[Swept]) -> Table:
    table = Table(title=title)
    table.add_column("best policy of", overflow="fold")
    for budget in LATENCY_BUDGETS_S:
        table.add_column(f"cut off at {1000 * budget:.0f} ms", justify="right")
    for rate in CUTOFF_BUDGETS:
        table.add_column(f"latency at {rate:.0%} cut off", justify="right")
    for system in systems:
        table.add_row(system.name, *system.cells())
    return table


def _decided_table(decided: Sequence[Decisions]) -> Table:
    table = Table(title="As set up, each pause and turn once")
    table.add_column("system", overflow="fold")
    for head in ("pauses cut off", "turns cut off", "wait p50", "wait mean", "wait p95", "ends missed"):
        table.add_column(head, justify="right")
    for one in decided:
        turns, pauses, waits = len(one.played), one.pauses, one.waits_s
        p50, p95 = percentiles(waits, 50, 95) or (None, None)
        table.add_row(
            one.name,
            f"{one.cut_pauses} of {pauses}, {one.cut_pauses / pauses:.1%}" if pauses else _NONE,
            f"{one.cut_turns} of {turns}, {one.cut_turns / turns:.1%}" if turns else _NONE,
            *(f"{1000 * wait:.0f} ms" if wait is not None else _NONE for wait in (p50, _mean(waits), p95)),
            f"{one.missed}",
        )
    return table


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
