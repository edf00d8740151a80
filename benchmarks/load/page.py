"""A run as one page: opens in a browser, offline, and says at its top whether the server is good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

_GOOD, _BAD, _DOUBTFUL = "good", "bad", "doubtful"
_MANY_ERRORS = 0.2
"""Of the words: with more, quick text is of no use."""
_SESSIONS = 200
"""Rows of the table; the JSON has all."""
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
.verdict{padding:.8rem 1rem;border-left:.6rem solid;font-size:1.15rem}
.good{border-color:#2f855a;background:#f0faf4}.bad{border-color:#c53030;background:#fdf2f2}
.doubtful{border-color:#b7791f;background:#fdf8ec}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child,td.text{text-align:left}.wide{overflow-x:auto}
svg{width:100%;height:auto}pre{background:#f6f6f6;padding:.8rem;overflow-x:auto}
"""


def page(told: Mapping[str, Any], best: int, svg: str) -> str:
    """HTML.

    Args:
        told: as `benchmarks.load.results.as_json` gives it.
        best: which of its runs the plots show.
        svg: the plots.
    """
    run = told["runs"][best]
    level, text = verdict(told, run)
    target = told["configuration"]
    body = [
        f"<h1>{escape(target['protocol'])} at {escape(target['url'])}</h1>",
        f'<p class="verdict {level}">{escape(text)}</p>',
        f"<p>{escape(told['started'])}; {escape(str(told['machine']['processor']))}, {told['machine']['cores']} cores; "
        f"set {escape(target['set'])}.</p>",
        *_symptoms(run),
        "<h2>What users saw</h2>"
        if len(told["runs"]) == 1
        else f"<h2>What users saw, at {run['streams']} streams</h2>",
        _figures(run),
        *_runs(told["runs"]),
        f'<div class="wide">{svg}</div>',
        "<h2>Sessions</h2>",
        _sessions(run["each_session"]),
        *(_details(name, told[key]) for name, key in _KEPT.items()),
        _details("Server", {key: run[key] for key in ("server", "server_process", "accelerators")}),
        _details("Generator", run["generator"]),
    ]
    head = f'<meta charset="utf-8"><title>Load: {escape(target["url"])}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


_KEPT = {"Configuration": "configuration", "Machine": "machine", "Versions": "versions"}


def verdict(told: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the server is good, and why.

    Args:
        run: of those in `told`, the one to judge by.
    """
    if not run["valid"]:
        return _DOUBTFUL, f"Not to be trusted: {run['invalid_because']}."
    objective_s = told["configuration"]["objective_s"]
    p95, rate, sessions = run["figures"]["time to final"]["p95"], run["word_errors"]["rate"], run["sessions"]
    errors = sessions["refused"] + sessions["failed"]
    parts = [f"p95 of the time to final {p95:.2f} s (objective {objective_s:g} s)" if p95 is not None else "no finals"]
    parts.append(f"{rate:.1%} word errors" if rate is not None else "no words to compare")
    parts.append(f"{errors} of {errors + sessions['done']} sessions refused or failed")
    text = f"With {run['streams']} at once: " + ", ".join(parts) + "."
    if found := told["streams_at_objective"]:
        text = f"Holds {'at least ' * found['at_least']}{found['streams']} streams within the objective. " + text
    if errors or p95 is None or p95 > objective_s:
        return _BAD, text
    return (_DOUBTFUL if rate is not None and rate > _MANY_ERRORS else _GOOD), text


def _symptoms(run: Mapping[str, Any]) -> Iterator[str]:
    for symptom in run["symptoms"]:
        counted = f"{symptom['sessions']} of {run['sessions']['measured']} sessions"
        yield f'<p class="verdict bad"><b>{escape(symptom["name"])}</b>: {counted}; {escape(symptom["example"])}</p>'


def _figures(run: Mapping[str, Any]) -> str:
    heads = ("p50", "p90", "p95", "p99", "max", "n")
    rows = [(name, *(figure[head] for head in heads)) for name, figure in run["figures"].items()]
    errors, steady = run["word_errors"], run["stability"]
    more = (
        ("word errors", errors["rate"], f"of {errors['words']} words"),
        ("erasure", steady["erasure"], "words taken back for each that stayed"),
        ("UPWR", steady["upwr"], "unstable partial words for each word"),
    )
    return _table(("seconds", *heads), rows) + _table(("", "", ""), more)


def _runs(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(runs) > 1:
        yield "<h2>All runs</h2>"
        heads = (
            "streams",
            "valid",
            "done",
            "refused",
            "failed",
            "first text p95",
            "final p50",
            "final p95",
            "word errors",
        )
        rows = []
        for run in sorted(runs, key=lambda run: int(run["streams"])):
            counted = (run["sessions"][name] for name in ("done", "refused", "failed"))
            first, final = run["figures"]["first text"], run["figures"]["time to final"]
            told = (first["p95"], final["p50"], final["p95"], run["word_errors"]["rate"])
            rows.append((run["streams"], "yes" if run["valid"] else "no", *counted, *told))
        yield _table(heads, rows)


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Those that went wrong first."""
    ordered = sorted(sessions, key=lambda session: (session["outcome"] == "done", session["session"]))
    heads = ("session", "clip", "outcome", "text")
    rows = [
        (each["session"], each["clip"], each["outcome"], each["reason"] or each["final"] + each["partial"])
        for each in ordered[:_SESSIONS]
    ]
    left = f"<p>{len(sessions) - _SESSIONS} more are in the JSON.</p>" if len(sessions) > _SESSIONS else ""
    return f'<div class="wide">{_table(heads, rows)}</div>{left}'


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td>{value:.3f}</td>"
    if isinstance(value, str):
        return f'<td class="text">{escape(value)}</td>'
    return f"<td>{'–' if value is None else value}</td>"


def _details(name: str, told: Mapping[str, Any]) -> str:
    lines = "\n".join(f"{key}: {value}" for key, value in told.items())
    return f"<details><summary>{escape(name)}</summary><pre>{escape(lines)}</pre></details>"
