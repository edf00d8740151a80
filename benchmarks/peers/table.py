"""The servers side by side, as rows for the terminal, the documentation and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from benchmarks.load.figures import Figure
from benchmarks.peers.figures import FINAL, FIRST, WORDS, Result
from benchmarks.peers.measure import Standing

HEADS = (
    *("server", "streams", "first text p50/p95", "TTFS p50/p95", "words PR50/PR90", "erasure", "WER"),
    *("CPU s per audio s", "streams at objective"),
)


def rows(standings: Sequence[Standing]) -> Iterator[tuple[str, ...]]:
    """A row for each server and number of streams, in the order of `HEADS`."""
    for standing in standings:
        for number, result in enumerate(standing.results.values()):
            yield (*_row(standing.peer.title, result), _searched(standing) if number == 0 else "")
        if not standing.results:
            yield (standing.peer.title, *("-",) * (len(HEADS) - 1))


def as_table(standings: Sequence[Standing]) -> Table:
    table = Table(title="Seconds; lower is better in all but the last column")
    for head in HEADS:
        table.add_column(head.replace(" ", "\n", 1), justify="left" if head == "server" else "right")
    for row in rows(standings):
        table.add_row(*row)
    return table


def as_markdown(standings: Sequence[Standing]) -> str:
    lines = [HEADS, ("---",) + ("---:",) * (len(HEADS) - 1), *rows(standings)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def remarks(standings: Sequence[Standing]) -> Iterator[str]:
    """What must be said beside the figures."""
    for standing in standings:
        title = standing.peer.title
        yield f"{title}: {standing.peer.settings} ({standing.peer.why})"
        if standing.peer.note:
            yield f"{title}: {standing.peer.note}"
        if standing.unavailable:
            yield f"{title} is not measured further: {standing.unavailable}"
        for result in standing.results.values():
            yield from (f"{title}, {result.streams} streams, INVALID: {reason}" for reason in result.invalid)
            yield from (f"{title}, {result.streams} streams: {failure}" for failure in result.failures)
            share = result.final_share
            if share is not None and share < 1:
                ended = f"{share:.0%} of sessions ended with their text whole and final; only these count in TTFS"
                yield f"{title}, {result.streams} streams: {ended}"


def _row(title: str, result: Result) -> tuple[str, ...]:
    times = result.times()
    final = _pair(times[FINAL], 95) if times[FINAL].values else "never final"
    return (
        title,
        str(result.streams),
        _pair(times[FIRST], 95),
        final,
        _pair(times[WORDS], 90),
        _number(result.erasure),
        _number(result.errors().rate, 3),
        _number(result.cpu_per_audio_s),
    )


def _pair(figure: Figure, high: int) -> str:
    return "/".join(_number(figure.percentile(percent)) for percent in (50, high))


def _number(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _searched(standing: Standing) -> str:
    if standing.search is None:
        return "-"
    return f"{'at least ' if standing.search.missed is None else ''}{standing.search.held}"
