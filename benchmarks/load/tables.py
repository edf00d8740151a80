"""Runs as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.common.session_log import Outcome
from benchmarks.common.stats import spread
from benchmarks.load.figures import (
    BY_PIPECAT,
    FINAL,
    FIRST_TEXT,
    IN_RESTS,
    after_pipecat_stops,
    after_rests,
    by_set,
    figures,
    steadiness,
    without_final,
    word_errors,
)
from benchmarks.load.results import generator
from benchmarks.load.speaking import Take
from benchmarks.load.symptoms import symptoms
from benchmarks.load.trial import Trial

_HEADS = ("p50", "p90", "p95", "p99", "max", "n")


def shown(trial: Trial, objective_s: float) -> RenderableType:
    """One run."""
    return Group(*_parts(trial, objective_s))


def _parts(trial: Trial, objective_s: float) -> Iterator[RenderableType]:
    run = trial.run
    if trial.invalid_because:
        yield Text(f"INVALID: {trial.invalid_because}", style="bold red")
    if run.interrupted:
        yield Text("Interrupted: sessions under way are left out.", style="yellow")
    outcomes = run.outcomes()
    counted = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome)
    yield Text(
        f"{run.plan.streams} streams, {run.took_s:.0f} s: {counted}; {len(run.measured())} counted; "
        f"{run.load():.2f} s of audio a second and stream"
    )
    own = generator(trial)
    table = Table()
    table.add_column("seconds")
    for head in _HEADS:
        table.add_column(head, justify="right")
    rows = {figure.name: spread(figure.values) for figure in figures(run.measured())}
    for name, figure in {**rows, "open a session": own["open_s"], "lag of this tool": own["lag_s"]}.items():
        table.add_row(name, *(_cell(figure[head]) for head in _HEADS))
    yield table
    if without := without_final(run.measured()):
        yield Text(f"{without} sessions ended without all of their text final, and have no time to final.", style="red")
    for what, waits in (
        ("rests of a second or more", after_rests(run.measured())),
        ("stops of Pipecat's", after_pipecat_stops(run.measured())),
    ):
        if waits:
            final = sum(value is not None for value in waits)
            yield Text(f"Talk: {final} of {len(waits)} {what} had all text final before the next speech or stop.")
    if len(of_sets := by_set(run.measured())) > 1:
        yield _sets(of_sets)
    errors = word_errors(run.measured())
    if errors.rate is not None:
        kinds = f"{errors.wrong} wrong, {errors.left_out} left out, {errors.added} added"
        yield Text(f"Word errors: {errors.rate:.1%} of {errors.words} words ({kinds}).")
    steady = steadiness(run.measured())
    if steady.erasure is not None:
        yield Text(f"Taken back: {steady.erasure:.2f} words for each that stayed (erasure); UPWR {steady.upwr:.2f}.")
    yield Text(
        f"This tool used {own['cores']:.2f} cores; the server throttled it for {own['held_back_by_server_s']:.1f} s."
    )
    yield from _server(trial)
    for symptom in symptoms(run.measured(), objective_s):
        yield Text(
            f"{symptom.name}: {symptom.sessions} of {len(run.measured())} sessions; {symptom.example}", style="red"
        )


def _sets(of_sets: Mapping[str, Sequence[Take]]) -> Table:
    """The figures of each kind of speech."""
    table = Table()
    table.add_column("set")
    table.add_column("seconds")
    for head in ("p50", "p95", "n"):
        table.add_column(head, justify="right")
    for name, takes in of_sets.items():
        first = name
        for figure in figures(takes):
            if figure.name in (FIRST_TEXT, FINAL, IN_RESTS, BY_PIPECAT):
                found = spread(figure.values)
                table.add_row(first, figure.name, *(_cell(found[head]) for head in ("p50", "p95", "n")))
                first = ""
        rate, erasure = word_errors(takes).rate, steadiness(takes).erasure
        if rate is not None:
            table.add_row("", f"word errors: {rate:.1%}")
        if erasure is not None:
            table.add_row("", f"taken back: {erasure:.2f} a word")
    return table


def _server(trial: Trial) -> Iterator[RenderableType]:
    if trial.process is not None:
        cores, memory, cost = (trial.process[name] for name in ("cores_mean", "rss_mib_max", "cpu_s_per_audio_s"))
        if None not in (cores, memory, cost):
            yield Text(f"Server: {cores:.2f} cores, {memory:.0f} MiB at most, {cost:.3f} CPU s per second of audio.")
    for index, used in (trial.accelerators or {}).items():
        busy, memory = used["busy_percent_mean"], used["memory_mib_max"]
        yield Text(f"Accelerator {index}: busy {_cell(busy)} % of the time, {_cell(memory)} MiB at most.")
    if trial.server is not None:
        metrics: dict[str, Any] = trial.server
        decodes = "; ".join(
            f"{kind} " + ", ".join(f"{count:.0f} {outcome}" for outcome, count in outcomes.items())
            for kind, outcomes in metrics["decodes"].items()
        )
        cached = metrics["cached_share_of_prompt_tokens"]
        yield Text(f"Decodes: {decodes or 'none'}." + (f" Cached prompt tokens: {cached:.0%}." if cached else ""))


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
