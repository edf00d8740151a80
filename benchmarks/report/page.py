"""Runs as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from benchmarks.report.errors import compared
from benchmarks.report.plots import plots, svg
from benchmarks.report.runs import BY_PIPECAT, FINAL, FIRST_TEXT, WORD, Document, Run

MOST_ERRORS = 40
"""Sessions whose errors are shown, those with the most first."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6472; --line: #d9dee5; --paper: #fff; --card: #f5f7fa;
  --good: #1c7d4d; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #a3adba; --line: #38414d; --paper: #12171d;
  --card: #1b222b; --good: #5ccb93; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1rem; font-weight: 600; color: var(--soft); margin: 2rem 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
.verdict { font-size: 1.6rem; line-height: 1.3; font-weight: 650; margin: 0; text-wrap: balance; }
.good { color: var(--good); } .bad { color: var(--bad); }
.why { margin: .5rem 0 0; color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.25rem 0 0; }
.tile { background: var(--card); border-radius: .6rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; }
figure { margin: 0 0 1.5rem; } figure svg { width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .9rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n { text-align: right; white-space: nowrap; }
del, ins { text-decoration: none; border-radius: .2rem; padding: 0 .15rem; }
del { background: #e5484d33; } ins { background: #f5a52444; }
summary { cursor: pointer; } pre { overflow-x: auto; font-size: .8rem; background: var(--card); padding: 1rem;
  border-radius: .6rem; }
"""


def written(documents: Sequence[Document]) -> str:
    """The page of one server's runs, or of several servers' side by side."""
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            f"<title>{escape(' against '.join(document.name for document in documents))}: live speech to text</title>",
            f"<style>{_STYLE}</style></head><body>",
            *(line for document in documents for line in _head(document)),
            "<h2>Latency and errors</h2>",
            f'<div class="plots">{"".join(_plots(documents))}</div>',
            *_table(documents),
            *_errors(documents),
            *_made(documents),
            "</body></html>",
        )
    )


def judged(document: Document) -> Run:
    """The run that a server is judged by: the most streams that it held, else the fewest."""
    held = [run for run in document.runs if not run.faults()]
    if held:
        return max(held, key=lambda run: run.streams)
    return min(document.runs, key=lambda run: run.streams)


def _head(document: Document) -> Iterator[str]:
    run = judged(document)
    faults = run.faults()
    streams = f"{run.streams} stream{'s' * (run.streams != 1)}"
    search = document.result.get("streams_at_objective")
    yield f"<h1>{escape(document.name)} · {escape(str(document.result.get('started', '')))}</h1>"
    if faults:
        yield f'<p class="verdict bad">Not good at {streams}: {escape(faults[0])}.</p>'
        if faults[1:]:
            yield f'<p class="why">Also {escape("; ".join(faults[1:]))}.</p>'
    else:
        most = ""
        if search:
            most = ", the most that were tried" if search["at_least"] else f", the most it holds: {search['streams']}"
        yield (
            f'<p class="verdict good">Good at {streams}{most}. Finals come {_s(run.at(FINAL, "p50"))} after the '
            f"speaker stops, nineteen of twenty within {_s(run.at(FINAL, 'p95'))}.</p>"
        )
    yield f'<div class="tiles">{"".join(_tiles(run))}</div>'


def _tiles(run: Run) -> Iterator[str]:
    steady = run.result["stability"]
    words = run.result["word_errors"]["words"]
    process = run.result.get("server_process") or {}
    cells = [
        (_s(run.at(FINAL, "p50")), f"final after the end of speech; p95 {_s(run.at(FINAL, 'p95'))}"),
        (_s(run.at(FIRST_TEXT, "p50")), f"first text after the onset; p95 {_s(run.at(FIRST_TEXT, 'p95'))}"),
        (_s(run.at(WORD, "p50")), f"until a word said is shown; p90 {_s(run.at(WORD, 'p90'))}"),
        (
            "-" if run.errors is None else f"{run.errors:.1%}",
            f"word errors, of {words} words",
        ),
        (_ratio(steady["erasure"]), "words taken back for each that stays"),
    ]
    if process.get("cpu_s_per_audio_s") is not None:
        cells.append((f"{process['cpu_s_per_audio_s']:.2f} s", "CPU of the server for a second of audio"))
    lag = run.result["generator"]["lag_s"]["p99"]
    trust = "valid" if run.result["valid"] else "INVALID"
    cells.append((trust, f"this measurement: the generator was late by {_s(lag)} (p99)"))
    for value, label in cells:
        colour = ' class="bad"' if value == "INVALID" else ""
        yield f'<div class="tile"><b{colour}>{escape(value)}</b><span>{escape(label)}</span></div>'


def _plots(documents: Sequence[Document]) -> Iterator[str]:
    for caption, plot in plots(documents):
        yield f"<figure>{svg(plot, documents)}<figcaption>{escape(caption)}.</figcaption></figure>"


def _table(documents: Sequence[Document]) -> Iterator[str]:
    heads = (
        *("server", "streams", "sessions", "first text p50 / p95", "final p50 / p95 / p99", "less 0.2 s, p50"),
        *("finalize p50 / p95", "Pipecat's rule p50 / p95 / p99", "word shown p50 / p90"),
        *("LAAL", "erasure", "UPWR", "errors", "CPU s/s", "faults"),
    )
    yield "<h2>Every run</h2>"
    yield f'<div class="scroll"><table><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>'
    for document in documents:
        for run in (each for whole in document.runs for each in (whole, *whole.of_sets())):
            cells = "".join(
                f'<td class="n">{escape(cell)}</td>' if number else f"<td>{escape(cell)}</td>"
                for number, cell in enumerate(_row(run))
            )
            yield f"<tr>{cells}</tr>"
    yield "</table></div>"


def _row(run: Run) -> Iterator[str]:
    result = run.result
    sessions = result["sessions"]
    process = result.get("server_process") or {}
    cost = process.get("cpu_s_per_audio_s")
    p50 = run.at(FINAL, "p50")
    yield run.name
    yield str(run.streams)
    yield f"{sessions['done']} done, {sessions['refused']} refused, {sessions['failed']} failed"
    yield _spread(run, FIRST_TEXT, "p50", "p95")
    yield _spread(run, FINAL, "p50", "p95", "p99")
    yield _s(None if p50 is None else p50 - 0.2)
    yield _spread(run, "final after finalize", "p50", "p95")
    yield _spread(run, BY_PIPECAT, "p50", "p95", "p99")
    yield _spread(run, WORD, "p50", "p90")
    yield _s(run.at("lagging (LAAL), by the clock", "p50"))
    yield _ratio(result["stability"]["erasure"])
    yield _ratio(result["stability"]["upwr"])
    yield "-" if run.errors is None else f"{run.errors:.2%}"
    yield _ratio(cost)
    yield "; ".join(run.faults()) or "none"


def _errors(documents: Sequence[Document]) -> Iterator[str]:
    run = judged(documents[0])
    found = [compared(session) for session in run.result["each_session"] if session["measured"]]
    found = sorted((each for each in found if each.errors), key=lambda each: -each.errors)
    yield f"<h2>What was recognized wrongly ({escape(run.name)}, {run.streams} streams)</h2>"
    if not found:
        yield "<p>Nothing.</p>"
        return
    yield '<div class="scroll"><table><tr><th>clip</th><th>errors</th><th>said</th><th>read</th></tr>'
    for each in found[:MOST_ERRORS]:
        yield (
            f'<tr><td>{each.clip}</td><td class="n">{each.errors} of {each.words}</td>'
            f"<td>{each.said}</td><td>{each.read}</td></tr>"
        )
    yield "</table></div>"
    if len(found) > MOST_ERRORS:
        yield f"<p>And {len(found) - MOST_ERRORS} more sessions.</p>"


def _made(documents: Sequence[Document]) -> Iterator[str]:
    yield "<h2>How this was made</h2>"
    for document in documents:
        lines = "\n".join(_settings(document.result))
        yield f"<details><summary>{escape(document.name)}</summary><pre>{escape(lines)}</pre></details>"


def _settings(result: dict[str, Any]) -> Iterator[str]:
    for title in ("configuration", "machine", "versions"):
        yield f"{title}:"
        yield from (f"  {name}: {value}" for name, value in (result.get(title) or {}).items())
    yield f"commit: {result.get('commit')}"


def _spread(run: Run, figure: str, *percentiles: str) -> str:
    return " / ".join(_s(run.at(figure, percentile)) for percentile in percentiles)


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
