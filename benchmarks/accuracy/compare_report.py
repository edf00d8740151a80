"""A comparison on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.accuracy.compare import ClipResult, Comparison, Group, Way
from benchmarks.accuracy.side_by_side import Column, excerpts
from benchmarks.accuracy.word_errors import interval, pooled

HEADS = ("set", "way", "rate", "95 %", "sub/del/ins")
"""Of the table; the 95 % are a bootstrap's over clips."""
ROWS = ("said", "offline", "streamed")
_MISSING = "·"
_MOST_LEFT_OUT = 5


def show(comparison: Comparison, console: Console, *, errors: int) -> None:
    """Tables, then the worst `errors` clips word by word."""
    groups = comparison.groups()
    if groups:
        console.print(_table(groups, comparison.model))
    worst = comparison.worst()
    for result in worst[:errors]:
        _show_errors(result, console)
    if len(worst) > errors:
        console.print(
            f"{len(worst) - errors} more clips have errors: --errors N, --html FILE or --json FILE shows them."
        )
    for reason in comparison.left_out[:_MOST_LEFT_OUT]:
        console.print(f"left out: {reason}", style="yellow", markup=False)
    if len(comparison.left_out) > _MOST_LEFT_OUT:
        console.print(f"and {len(comparison.left_out) - _MOST_LEFT_OUT} more were left out", style="yellow")


def rows_of(groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    """A row, as `HEADS` names its cells, for each group and way of transcribing."""
    for group in groups:
        said = pooled(group.errors(Way.FINALS)).reference
        unit = "characters" if group.measure == "CER" else "words"
        name = f"{group.name} ({group.language}): {len(group.clips)} clips, {said} {unit}"
        for way in Way:
            if not (by_clip := group.errors(way)):
                continue
            total = pooled(by_clip)
            kinds = f"{total.substituted}/{total.deleted}/{total.inserted}"
            yield name, way.value, f"{group.measure} {100 * total.rate:.2f} %", _span(interval(by_clip)), kinds
            name = ""
        if (wait := group.median_wait_s) is not None:
            yield name, f"{group.utterances} utterances", f"wait {1000 * wait:.0f} ms", "", ""
        added = pooled(group.errors(Way.FINALS)).rate - pooled(group.errors(Way.OFFLINE)).rate
        yield name, "added by streaming", f"{100 * added:+.2f}", _span(group.added()), ""


def _span(bounds: tuple[float, float] | None) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}" if bounds else "–"


def _table(groups: Sequence[Group], model: str) -> Table:
    table = Table(title=f"{model}: errors by set and language")
    for number, head in enumerate(HEADS):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=number > 0)
    for row in rows_of(groups):
        table.add_row(*row, end_section=row[1].startswith("added"))
    return table


def _show_errors(result: ClipResult, console: Console) -> None:
    offline, finals = result.errors(Way.OFFLINE).total, result.errors(Way.FINALS).total
    console.print(
        f"\n{result.set}/{result.clip.id}: {offline} errors offline, {finals} streamed", style="bold", markup=False
    )
    for part in excerpts(result.columns()):
        for line in _wrapped(part, console.width):
            for row, name in enumerate(ROWS):
                console.print(_row(line, row, name), no_wrap=True, overflow="ignore", crop=False)


def _cells(column: Column) -> list[str]:
    """What stands in a column, from top to bottom; wrong words are also marked without colours."""
    words = (f"*{word}*" if word and word != column.said else word for word in column.recognized)
    return [word or _MISSING for word in (column.said, *words)]


def _width(column: Column) -> int:
    return max(map(cell_len, _cells(column)))


def _wrapped(columns: Sequence[Column], width: int) -> list[list[Column]]:
    room = width - max(map(len, ROWS)) - 2
    lines: list[list[Column]] = [[]]
    used = 0
    for column in columns:
        if lines[-1] and used + _width(column) > room:
            lines.append([])
            used = 0
        lines[-1].append(column)
        used += _width(column) + 1
    return lines


def _row(columns: Sequence[Column], row: int, name: str) -> Text:
    text = Text(f"{name:>{max(map(len, ROWS))}}  ", style="dim")
    for column in columns:
        word = _cells(column)[row]
        wrong = row > 0 and column.recognized[row - 1] != column.said
        text.append(word, style="not dim bold red" if wrong else "not dim")
        text.append(" " * (_width(column) - cell_len(word) + 1))
    return text
