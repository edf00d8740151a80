"""A comparison as a page of HTML that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from string import Template
from typing import Any

from benchmarks.accuracy.compare import ClipResult, Comparison, Way
from benchmarks.accuracy.compare_report import HEADS, ROWS, rows_of
from benchmarks.accuracy.side_by_side import Column, excerpts

_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light dark; --wrong: #b3261e; --missing: #888; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --wrong: #ff8a80; } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
section { border-top: 1px solid var(--line); padding: .6rem 0; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
.part { display: flex; flex-wrap: wrap; gap: .2rem .5rem; margin: .4rem 0; }
.part > div { display: grid; grid-template-rows: repeat(3, 1.4em); }
.names { color: var(--missing); text-align: right; }
.wrong { color: var(--wrong); font-weight: 600; text-decoration: underline; }
.none { color: var(--missing); }
pre { overflow-x: auto; }
</style>
<h1>$title</h1>
<p>$summary</p>
<table><thead><tr>$heads</tr></thead><tbody>$rows</tbody></table>
<p>"added" is what the finals add to the errors of whole files, in points; 95 % by bootstrap over clips.</p>
<h2>Errors, word under word</h2>
<p>First the clips that streaming made worse. Wrong words are underlined; · stands where a row has none.</p>
$errors
$left_out
<h2>How this was measured</h2>
<pre>$setting</pre>
</html>
""")


def page(comparison: Comparison, setting: dict[str, Any]) -> str:
    """The whole page."""
    worst = comparison.worst()
    left_out = "".join(f"<li>{html.escape(reason)}</li>" for reason in comparison.left_out)
    return _PAGE.substitute(
        title=f"Accuracy of {html.escape(comparison.model)}",
        summary=f"{len(comparison.done)} clips were transcribed; {len(worst)} of them have errors.",
        heads="".join(f"<th>{head}</th>" for head in HEADS),
        rows="".join(_table_row(row) for row in rows_of(comparison.groups())),
        errors="".join(_section(result) for result in worst) or "<p>None.</p>",
        left_out=f"<h2>Left out</h2><ul>{left_out}</ul>" if left_out else "",
        setting=html.escape(json.dumps(setting, indent=1, ensure_ascii=False)),
    )


def _table_row(cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _section(result: ClipResult) -> str:
    offline, finals = result.errors(Way.OFFLINE).total, result.errors(Way.FINALS).total
    name = html.escape(f"{result.set}/{result.clip.id}")
    parts = "".join(_part(part) for part in excerpts(result.columns()))
    return f"<section><h3>{name}: {offline} errors offline, {finals} streamed</h3>{parts}</section>"


def _part(columns: list[Column]) -> str:
    names = "".join(f"<span>{name}</span>" for name in ROWS)
    return f'<div class="part"><div class="names">{names}</div>{"".join(map(_column, columns))}</div>'


def _column(column: Column) -> str:
    cells = [_cell(column.said, "")]
    cells += [_cell(word, "wrong" if word != column.said else "") for word in column.recognized]
    return f"<div>{''.join(cells)}</div>"


def _cell(word: str, style: str) -> str:
    if not word:
        return '<span class="none">·</span>'
    return f'<span class="{style}">{html.escape(word)}</span>' if style else f"<span>{html.escape(word)}</span>"
