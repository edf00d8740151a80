"""The plots of a report, as SVG for its page and as one picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report.runs import FINAL, FIRST_TEXT, Document, Run

COLOURS = ("#2f6fde", "#e07b39", "#2a9d6f", "#b1489b", "#8a7a2d", "#5b6472")
_INK, _GRID = "#5b6472", "#8a93a155"
_FIGURES = ((FIRST_TEXT, "first text, from the onset of speech"), (FINAL, "final text, from the end of speech"))

Plot = Callable[[Axes, Sequence[Document]], None]


def svg(plot: Plot, documents: Sequence[Document], width: float = 6.4, height: float = 3.6) -> str:
    """One plot, without an XML header, to stand in a page. Transparent, in inks that are seen on light and on dark."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    plot(axes, documents)
    _style(axes)
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    return drawn[drawn.index("<svg") :]


def overview(documents: Sequence[Document], file: Path) -> None:
    """All plots as one picture.

    Raises:
        OSError: it can't be written.
    """
    figure = Figure(figsize=(13, 11), layout="constrained", facecolor="white")
    chosen = plots(documents)
    for number, (_, plot) in enumerate(chosen, 1):
        axes = figure.add_subplot((len(chosen) + 1) // 2, 2, number)
        plot(axes, documents)
        _style(axes)
    figure.savefig(file, format="png", dpi=110)


def plots(documents: Sequence[Document]) -> list[tuple[str, Plot]]:
    """Those that these documents have something to show for, with their captions."""
    chosen: list[tuple[str, Plot]] = [
        ("How long until there is text: share of the utterances by seconds", latency_shares),
        ("The same as a distribution", latency_distribution),
    ]
    if any(len(document.runs) > 1 for document in documents):
        chosen.append(("Latency against streams", against_streams))
    chosen.append(("Word errors against latency: the lower left is best", errors_against_latency))
    if any(run.result.get("example") for document in documents for run in document.runs):
        chosen.append(("One session: what was said, and which text was shown when", timeline))
    return chosen


def latency_shares(axes: Axes, documents: Sequence[Document]) -> None:
    for run, colour in _shown_runs(documents):
        for (figure, label), line in zip(_FIGURES, (":", "-"), strict=True):
            values = np.sort(run.values(figure))
            if len(values):
                shares = np.arange(1, len(values) + 1) / len(values)
                axes.step(values, shares * 100, line, where="post", color=colour, label=f"{_name(run)}: {label}")
    for document in documents[:1]:
        axes.axvline(document.runs[0].objective_s, color="#c0392b", linewidth=1, linestyle="--", label="objective")
    axes.set_xlabel("seconds")
    axes.set_ylabel("share of utterances, %")
    axes.set_xlim(left=0)
    axes.legend(fontsize=7, frameon=False, labelcolor=_INK, loc="lower right")


def latency_distribution(axes: Axes, documents: Sequence[Document]) -> None:
    runs = _shown_runs(documents)
    every = [value for run, _ in runs for value in run.values(FINAL)]
    if not every:
        axes.text(0.5, 0.5, "no final text", ha="center", color=_INK)
        return
    bins = np.linspace(min(0.0, min(every)), max(every) * 1.05 + 0.01, 40).tolist()
    for run, colour in runs:
        if values := run.values(FINAL):
            axes.hist(values, bins=bins, color=colour, alpha=0.55, label=_name(run))
    axes.set_xlabel("final text after the end of speech, seconds")
    axes.set_ylabel("utterances")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7, frameon=False, labelcolor=_INK)


def against_streams(axes: Axes, documents: Sequence[Document]) -> None:
    for document, colour in zip(documents, _colours(len(documents)), strict=True):
        runs = sorted(document.runs, key=lambda run: run.streams)
        for percentile, line in (("p50", "o-"), ("p95", "s--")):
            points = [(run.streams, value) for run in runs if (value := run.at(FINAL, percentile)) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), line, color=colour, label=f"{document.name}: {percentile}")
    axes.axhline(documents[0].runs[0].objective_s, color="#c0392b", linewidth=1, linestyle="--")
    axes.set_xlabel("streams at once")
    axes.set_ylabel("final text after the end of speech, s")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False, labelcolor=_INK)


def errors_against_latency(axes: Axes, documents: Sequence[Document]) -> None:
    furthest = highest = 0.0
    for document, colour in zip(documents, _colours(len(documents)), strict=True):
        for run in document.runs:
            latency = run.at(FINAL, "p50")
            if latency is not None and run.errors is not None:
                axes.plot(latency, run.errors * 100, "o", color=colour, markersize=8)
                furthest, highest = max(furthest, latency), max(highest, run.errors * 100)
                axes.annotate(_name(run), (latency, run.errors * 100), (6, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("final text after the end of speech, p50, seconds")
    axes.set_ylabel("word error rate, %")
    axes.set_xlim(0, 1.5 * furthest + 0.1)
    axes.set_ylim(0, 1.25 * highest + 0.1)


def timeline(axes: Axes, documents: Sequence[Document]) -> None:
    """Words over the time of the audio: where each was spoken, when it was first shown, when it was final."""
    run = next(run for document in documents for run in document.runs if run.result.get("example"))
    example: dict[str, Any] = run.result["example"]
    envelope = np.array(example["envelope"])
    times = (np.arange(len(envelope)) + 0.5) * example["speech_s"] / max(1, len(envelope))
    shown = example["shown"]
    counts = [(at_s, len(final.split()), len((final + partial).split())) for at_s, final, partial in shown]
    most = max((count for _, _, count in counts), default=1)
    loudest = float(envelope.max(initial=1e-6)) or 1e-6
    axes.fill_between(times, 0, envelope / loudest * most * 0.3, color="#8a93a1", alpha=0.5, linewidth=0, label="audio")
    at = [0.0, *(at_s for at_s, _, _ in counts), max(example["audio_s"], counts[-1][0])]
    final = [0, *(final for _, final, _ in counts), counts[-1][1]]
    whole = [0, *(count for _, _, count in counts), counts[-1][2]]
    axes.step(at, whole, where="post", color=COLOURS[1], label="words to be read")
    axes.step(at, final, where="post", color=COLOURS[0], label="of these final")
    if words := example["words"]:
        ends = [end_s for _, _, end_s in words]
        axes.step(ends, range(1, len(words) + 1), where="post", color=_INK, linestyle=":", label="words spoken")
    axes.axvline(example["speech_s"], color="#c0392b", linewidth=1, linestyle="--", label="end of the clip")
    axes.set_xlabel(f"seconds of the audio ({_name(run)}, {example['clip']})")
    axes.set_ylabel("words")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False, labelcolor=_INK)


def _shown_runs(documents: Sequence[Document]) -> list[tuple[Run, str]]:
    """Every run where there is one document, else the first of each."""
    if len(documents) == 1:
        runs = documents[0].runs[: len(COLOURS)]
        return list(zip(runs, _colours(len(runs)), strict=True))
    return [(document.runs[0], colour) for document, colour in zip(documents, _colours(len(documents)), strict=True)]


def _name(run: Run) -> str:
    return f"{run.name}, {run.streams} stream{'s' * (run.streams != 1)}"


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _style(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.grid(color=_GRID, linewidth=0.6)
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts):
        text.set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)
