"""The comparison as JSON, as a plot, and as one HTML file that opens offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.common.stats import spread
from benchmarks.peers.figures import FINAL, FIRST, WORDS, Result
from benchmarks.peers.measure import Standing
from benchmarks.peers.table import HEADS, remarks, rows

FORMAT = 1
"""Of the JSON; grows when a field changes its meaning."""
_COLOURS = {FIRST: "#0072b2", WORDS: "#009e73", FINAL: "#d55e00"}
"""Colour-blind readers can distinguish them too."""
_HIGH = {FIRST: 95, WORDS: 90, FINAL: 95}


def as_json(
    configuration: Mapping[str, Any], setting: Mapping[str, Any], standings: Sequence[Standing]
) -> dict[str, Any]:
    """Everything that is known, with the time of each word and of each change of text."""
    return {
        "format": FORMAT,
        "configuration": dict(configuration),
        **setting,
        "peers": [_standing(standing) for standing in standings],
        "remarks": list(remarks(standings)),
    }


def _standing(standing: Standing) -> dict[str, Any]:
    peer = standing.peer
    return {
        "name": peer.name,
        "title": peer.title,
        "packages": list(peer.packages),
        "versions": list(standing.versions),
        "settings": peer.settings,
        "why": peer.why,
        "note": peer.note,
        "unavailable": standing.unavailable or None,
        "results": [_result(result) for result in standing.results.values()],
        "streams_at_objective": None
        if standing.search is None
        else {
            "streams": standing.search.held,
            "at_least": standing.search.missed is None,
            "tried": [list(tried) for tried in standing.search.tried],
        },
    }


def _result(result: Result) -> dict[str, Any]:
    errors = result.errors()
    return {
        "streams": result.streams,
        "times_s": {name: spread(figure.values) for name, figure in result.times().items()},
        "erasure": result.erasure,
        "word_errors": {**asdict(errors), "rate": errors.rate},
        "final_share": result.final_share,
        "cpu_s_per_audio_s": result.cpu_per_audio_s,
        "rss_mib_max": result.rss_mib,
        "invalid_because": result.invalid,
        "failures": result.failures,
        "sessions": [
            {
                "clip": take.log.clip,
                "reference": take.utterance.clip.text,
                "final": take.log.shown[-1].final if take.log.shown else "",
                "partial": take.log.shown[-1].partial if take.log.shown else "",
                "words": [[word, round(start, 3), round(end, 3)] for word, start, end in take.utterance.words],
                "shown": [[round(state.at_s, 3), state.final, state.partial] for state in take.log.shown],
            }
            for take in result.takes
        ],
    }


def as_png(standings: Sequence[Standing]) -> bytes:
    """A line for each server and time, from its median to its high percentile, on a logarithmic scale."""
    from matplotlib.figure import Figure as Canvas

    measured = [(standing, result) for standing in standings for result in standing.results.values()]
    canvas = Canvas(figsize=(10, 1.6 + 0.8 * max(1, len(measured))), layout="constrained")
    axes = canvas.subplots()
    labels = []
    labelled: set[str] = set()
    for place, (standing, result) in enumerate(measured):
        labels.append(f"{standing.peer.title}\n{result.streams} stream{'s' * (result.streams > 1)}")
        for offset, (name, figure) in zip((-0.22, 0.0, 0.22), result.times().items(), strict=True):
            low, high = figure.percentile(50), figure.percentile(_HIGH[name])
            if low is None or high is None:
                continue
            # A word may be shown just before its end; the scale has no zero.
            ends = [max(value, 0.05) for value in (low, high)]
            label = None if name in labelled else f"{name}, p50 to p{_HIGH[name]}"
            labelled.add(name)
            axes.plot(ends, [place + offset] * 2, color=_COLOURS[name], linewidth=5, alpha=0.55, label=label)
            axes.plot(ends[:1], [place + offset], "o", color=_COLOURS[name])
            axes.annotate(
                f"{low:.2f} / {high:.2f}", (ends[1], place + offset), (6, -3), textcoords="offset points", size=8
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.set_xlabel("seconds after the speech (the shorter the better)")
    axes.margins(x=0.12)
    axes.grid(axis="x", which="both", alpha=0.3)
    if labelled:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    written = io.BytesIO()
    canvas.savefig(written, format="png", dpi=130)
    return written.getvalue()


def as_html(comparison: Mapping[str, Any], standings: Sequence[Standing], png: bytes) -> str:
    """The comparison as a page.

    Args:
        comparison: as `as_json` gives it.
        png: the picture of it.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(standings)
    )
    said = "".join(f"<li>{html.escape(remark)}</li>" for remark in comparison["remarks"])
    machine = html.escape(", ".join(f"{name} {value}" for name, value in comparison["machine"].items()))
    image = base64.b64encode(png).decode()
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Speech servers side by side</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ padding: .35rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
 font-variant-numeric: tabular-nums; }}
th:first-child, td:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
li {{ white-space: pre-wrap; }}
</style>
<h1>Speech servers side by side</h1>
<p>Seconds; lower is better in all but the last column. {machine}</p>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<p><img alt="For each server the times of the table, from their median to their high percentile"
 src="data:image/png;base64,{image}"></p>
<ul>{said}</ul>
</html>
"""
