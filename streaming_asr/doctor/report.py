"""The doctor's report, as a table for people or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streaming_asr import __version__
from streaming_asr.doctor.checks import Check, processor, python
from streaming_asr.doctor.engine import check_engine
from streaming_asr.doctor.machine import Machine
from streaming_asr.doctor.uses import Standing, Use, best, examine

TITLES: dict[Standing, str] = {
    "ready": "Ready to run now",
    "possible": "Possible after these commands",
    "missing": "Missing",
}

MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]--[/]", "broken": "[red]!![/]", "absent": "[dim]--[/]"}


def main(argv: Sequence[str] | None = None, machine: Machine | None = None) -> int:
    """Report what this machine can run.

    Returns:
        0 where at least one recognizer can start, or with ``--engine`` if that model works; else 1.
    """
    parser = argparse.ArgumentParser(
        prog="streaming-asr doctor",
        description="Report what this machine can run, what is missing, and how to install it.",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument(
        "--engine",
        metavar="MODEL",
        help="start MODEL under vLLM instead, check the device with it, and stop; vLLM's options may follow",
    )
    options, engine = parser.parse_known_args(argv)
    if engine and options.engine is None:
        parser.error(f"unrecognized arguments: {' '.join(engine)}")
    if options.engine is not None:
        return _check_engine(options.engine, engine)
    machine = machine or Machine()
    uses = examine(machine)
    if options.json:
        print(json.dumps(as_json(machine, uses), indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 120
        console.print(as_table(machine, uses))
        console.print(escape(last_line(uses)), style="bold", soft_wrap=True)
    return 0 if best(uses) is not None else 1


def _check_engine(model: str, options: Sequence[str]) -> int:
    works, lines = check_engine(model, options)
    for line in lines:
        print(line)
    return 0 if works else 1


def as_json(machine: Machine, uses: list[Use]) -> dict[str, Any]:
    """The whole report; each check has ``name``, ``state``, ``detail``, ``fix``."""
    start = best(uses)
    return {
        "version": __version__,
        "machine": [_check(check) for check in (python(machine), processor(machine))],
        "uses": [
            {
                "name": use.name,
                "standing": use.standing,
                "start": use.start,
                "needs": [_check(check) for check in use.needs],
                "helps": [_check(check) for check in use.helps],
            }
            for use in uses
        ],
        "start": start.start if start is not None else None,
    }


def as_table(machine: Machine, uses: list[Use]) -> Table:
    """The uses by what they stand at. Without lines, so that a command can be copied from it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("use")
    table.add_column("state")
    table.add_column("found", overflow="fold")
    here = f"Python {python(machine).detail}, {processor(machine).detail}"
    table.add_row("[bold]This machine[/]", "", f"{here}; streaming-asr {__version__}")
    for standing, title in TITLES.items():
        those = [use for use in uses if use.standing == standing]
        if those:
            table.add_row()
            table.add_row(f"[bold]{title}[/]")
        for use in those:
            for index, row in enumerate(_rows(use)):
                table.add_row("  " + use.name if index == 0 else "", *row)
    table.add_row()
    return table


def last_line(uses: list[Use]) -> str:
    """The command to start with, or the way to one."""
    start = best(uses)
    if start is not None:
        return f"Start: {start.start}"
    easiest = next(use for use in uses if use.name == "Whisper in this process")
    steps = [step for fix in easiest.fixes for step in fix.splitlines()]
    return f"No recognizer can run yet. The shortest way: {', then '.join([*steps, str(easiest.start)])}"


def _rows(use: Use) -> list[tuple[str, str]]:
    """A row for each check that matters to the reader, then one for each command: several checks may share it."""
    shown = [check for check in (*use.needs, *use.helps) if use.standing == "ready" or not check.ok]
    rows = [(MARKS[check.state], escape(f"{check.name}: {check.detail}")) for check in shown]
    fixes = (*use.fixes, *(check.fix for check in use.helps if check.fix is not None))
    return rows + [("[cyan]$[/]", f"[cyan]{escape(step)}[/]") for fix in fixes for step in fix.splitlines()]


def _check(check: Check) -> dict[str, str | None]:
    return {"name": check.name, "state": check.state, "detail": check.detail, "fix": check.fix}
