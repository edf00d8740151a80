"""What was measured, for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table

from benchmarks.front_end.crowding import Crowding
from benchmarks.front_end.stages import Minute, Stages
from benchmarks.front_end.trial import Step


def stages_table(measured: Sequence[Stages]) -> Table:
    """CPU by stage of the core, a line for each number of sessions together."""
    table = Table(title=f"CPU ms for a second of audio, {measured[0].speech_share:.0%} of it within utterances")
    for head in ("together", "decode", "resample", "gate", "Silero", "session", "scheduling", "messages", "all"):
        table.add_column(head, justify="right")
    for stages in measured:
        figures = (
            stages.decode,
            stages.resample,
            stages.gate,
            stages.network,
            stages.session,
            stages.schedule,
            stages.protocol,
            stages.total,
        )
        table.add_row(str(stages.together), *(f"{figure:.3f}" for figure in figures))
    return table


def minutes_table(minutes: Sequence[Minute]) -> Table:
    """The cost of one session as it grows older."""
    table = Table(title="One session, by its age (no sockets)")
    for head in ("minute", "CPU ms/s", "frames judged", "by Silero", "decodes", "messages", "audio held"):
        table.add_column(head, justify="right")
    shown = sorted({0, 1, len(minutes) // 2, len(minutes) - 1} & set(range(len(minutes))))
    for minute in (minutes[index] for index in shown):
        _add(table, str(minute.number), minute)
    if len(minutes) >= 10:
        for name, part in (("first 5, median", minutes[:5]), ("last 5, median", minutes[-5:])):
            table.add_row(name, f"{statistics.median(minute.cpu_ms for minute in part):.3f}", "", "", "", "", "")
    return table


def _add(table: Table, name: str, minute: Minute) -> None:
    table.add_row(
        name,
        f"{minute.cpu_ms:.3f}",
        str(minute.frames),
        str(minute.asked),
        str(minute.jobs),
        str(minute.messages),
        f"{minute.held_s:.1f} s",
    )


def crowding_table(measured: Sequence[Crowding]) -> Table:
    """What scheduling costs when the recognizer is full."""
    table = Table(title="More sessions than the recognizer can serve (no sockets)")
    for head in ("sessions", "scheduling CPU ms/s", "decodes/s", "left wanting"):
        table.add_column(head, justify="right")
    for crowding in measured:
        table.add_row(
            str(crowding.sessions),
            f"{crowding.schedule_ms:.3f}",
            f"{crowding.decodes_per_s:.0f}",
            f"{crowding.wanting:.0%}",
        )
    return table


def steps_table(steps: Sequence[Step], stages: Stages | None) -> Table:
    """One line for each number of sessions. The shell is what is beyond the core: sockets, tasks."""
    table = Table(title="Sessions at 1x on one core")
    heads = ("sessions", "oldest", "core", "others", "CPU ms/s", "shell", "memory", "lag p50/p95/p99/max, ms")
    for head in (*heads, "processed", "within", "late p99", "clients"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for step in steps:
        lag = step.lag_ms
        table.add_row(
            str(step.sessions),
            f"{step.age_s:.0f} s",
            f"{step.core_share:.0%}",
            f"{step.others_share:.0%}",
            f"{step.cpu_ms:.2f}",
            f"{step.cpu_ms - stages.total:.2f}" if stages else "-",
            f"{step.memory_kib:.0f} KiB",
            "/".join(f"{value:.1f}" for value in (lag.p50, lag.p95, lag.p99, lag.max)),
            f"{step.processed_share:.1%}",
            f"{step.wait_ms:g} ms",
            f"{step.crowd_lag_ms.p99:.1f} ms",
            f"{step.crowd_core_share:.0%}",
            step.verdict,
        )
        if step.failures:
            table.caption = f"First failure: {step.failures[0]}"
    return table
