"""Runs as pictures: how latencies are spread, how they grow with streams, what they cost in words, and one session."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure as Picture

from benchmarks.load.figures import WORD_SHOWN, figures, word_errors
from benchmarks.load.speaking import Take
from benchmarks.load.trial import Trial
from benchmarks.measures.readings import plain_words
from benchmarks.session_log import Outcome

_SHOWN = {"first text": "#2a7fbf", "time to final": "#c2410c", WORD_SHOWN: "#5b8c3a", "final after finalize": "#7e3f98"}
"""Figures that are drawn, and their colours."""
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "load",
}
_FIRST_FEW = 12


def draw(trials: Sequence[Trial], objective_s: float) -> Picture:
    """All plots of a run, or of the runs of a search.

    Args:
        trials: at least one.
    """
    with rc_context(_STYLE):
        picture = Picture(figsize=(11, 11), layout="constrained")
        grid = picture.add_gridspec(4, 2, height_ratios=(3, 3, 1, 2.5))
        trial = best(trials, objective_s)
        _spread(picture.add_subplot(grid[0, 0]), trial, objective_s)
        _histogram(picture.add_subplot(grid[0, 1]), trial)
        if len(trials) > 1:
            _by_streams(picture.add_subplot(grid[1, 0]), trials, objective_s)
        else:
            _over_time(picture.add_subplot(grid[1, 0]), trial, objective_s)
        _words_and_latency(picture.add_subplot(grid[1, 1]), trials)
        take = _usual(trial)
        if take is not None:
            sound = picture.add_subplot(grid[2, :])
            _sound(sound, take)
            _session(picture.add_subplot(grid[3, :], sharex=sound), take)
        return picture


def write_png(picture: Picture, file: Path) -> None:
    picture.savefig(file, format="png", dpi=130)


def as_svg(picture: Picture) -> str:
    """For a page: without the declarations of a file of its own."""
    out = io.StringIO()
    with rc_context(_STYLE):
        picture.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def best(trials: Sequence[Trial], objective_s: float) -> Trial:
    """The run with the most streams within the objective, else the one with the fewest."""
    held = [trial for trial in trials if not trial.invalid_because and (_p(trial, 95) or np.inf) <= objective_s]
    if held:
        return max(held, key=lambda trial: trial.run.plan.streams)
    return min(trials, key=lambda trial: trial.run.plan.streams)


def _finals(trial: Trial) -> tuple[float, ...]:
    return next(figure.values for figure in figures(trial.run.measured()) if figure.name == "time to final")


def _p(trial: Trial, percent: float) -> float | None:
    values = _finals(trial)
    return float(np.percentile(values, percent)) if values else None


def _spread(axes: Any, trial: Trial, objective_s: float) -> None:
    for figure in figures(trial.run.measured()):
        if figure.name in _SHOWN and figure.values:
            values = np.sort(figure.values)
            share = np.arange(len(values) + 1) / len(values)
            axes.step(
                [values[0], *values],
                share,
                where="post",
                color=_SHOWN[figure.name],
                label=f"{figure.name} (n={len(values)})",
            )
    axes.axvline(objective_s, color="#999", linestyle=":", label=f"objective {objective_s:g} s")
    axes.axhline(0.95, color="#ccc", linewidth=0.8)
    axes.set(
        title=f"Latency, cumulative; streams at once: {trial.run.plan.streams}",
        xlabel="s",
        ylabel="share within",
        ylim=(0, 1.01),
    )
    axes.legend(loc="lower right")


def _histogram(axes: Any, trial: Trial) -> None:
    shown = [figure for figure in figures(trial.run.measured()) if figure.name in _SHOWN and figure.values]
    if shown:
        values = np.concatenate([figure.values for figure in shown])
        bins = np.linspace(min(0.0, float(values.min())), float(values.max()) or 1.0, 40).tolist()
        for figure in shown:
            weights = np.full(len(figure.values), 1 / len(figure.values))
            axes.hist(
                figure.values, bins, weights=weights, histtype="step", color=_SHOWN[figure.name], label=figure.name
            )
        axes.legend()
    axes.set(title="Latency, spread", xlabel="s", ylabel="share of each")


def _by_streams(axes: Any, trials: Sequence[Trial], objective_s: float) -> None:
    ordered = sorted(trials, key=lambda trial: trial.run.plan.streams)
    for percent, line in ((50, "-"), (95, "--"), (99, ":")):
        points = [(trial.run.plan.streams, value) for trial in ordered if (value := _p(trial, percent)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), line, marker="o", markersize=3, color="#c2410c", label=f"p{percent}")
    axes.axhline(objective_s, color="#999", linestyle=":", label=f"objective {objective_s:g} s")
    axes.set(title="Time to final against streams", xlabel="streams", ylabel="s", ylim=(0, None))
    axes.legend()


def _over_time(axes: Any, trial: Trial, objective_s: float) -> None:
    done = _done(trial)
    points = [(take.began_s + take.utterance.duration_s, values[0]) for take in done if (values := _final_of(take))]
    if points:
        axes.plot(*zip(*points, strict=True), ".", color="#c2410c")
    axes.axhline(objective_s, color="#999", linestyle=":")
    axes.set(title="Time to final in the course of the run", xlabel="s since its begin", ylabel="s", ylim=(0, None))


def _words_and_latency(axes: Any, trials: Sequence[Trial]) -> None:
    if len(trials) > 1:
        for trial in trials:
            rate, p95 = word_errors(trial.run.measured()).rate, _p(trial, 95)
            if rate is not None and p95 is not None:
                axes.plot(p95, 100 * rate, "o", color="#2a7fbf")
                axes.annotate(f" {trial.run.plan.streams}", (p95, 100 * rate))
        axes.set(title="Word errors against p95 of the time to final", xlabel="s; the number is that of the streams")
    else:
        for take in _done(trials[0]):
            rate, values = word_errors([take]).rate, _final_of(take)
            if rate is not None and values:
                axes.plot(values[0], 100 * rate, ".", color="#2a7fbf")
        axes.set(title="Word errors of each session against its time to final", xlabel="s")
    axes.set(ylabel="% of the words", ylim=(-1, max(10.0, axes.get_ylim()[1])))


def _sound(axes: Any, take: Take) -> None:
    chunks = (*take.utterance.speech, *take.utterance.silence)
    pcm = np.frombuffer(b"".join(chunk.pcm for chunk in chunks), "<i2")
    axes.plot(np.linspace(0, take.utterance.duration_s, len(pcm)), pcm, linewidth=0.3, color="#555")
    axes.set(title=f"One session: {take.log.clip}", yticks=[])
    axes.tick_params(labelbottom=False)


def _session(axes: Any, take: Take) -> None:
    shown = take.log.shown
    times = [each.at_s for each in shown]
    final = [len(plain_words(each.final)) for each in shown]
    read = [len(plain_words(each.final + each.partial)) for each in shown]
    end = max(times[-1], take.utterance.duration_s)
    if words := take.utterance.words:
        axes.step([0, *(word[2] for word in words)], range(len(words) + 1), where="post", color="#555", label="spoken")
    axes.step([0, *times, end], [0, *read, read[-1]], where="post", color="#2a7fbf", label="to be read")
    axes.step([0, *times, end], [0, *final, final[-1]], where="post", color="#c2410c", label="final")
    for each, count in list(zip(shown, read, strict=True))[:_FIRST_FEW]:
        axes.plot(each.at_s, count, ".", color="#2a7fbf")
    axes.set(xlabel="s since the first sample was spoken", ylabel="words")
    axes.legend(loc="upper left")


def _done(trial: Trial) -> list[Take]:
    return [take for take in trial.run.measured() if take.log.outcome is Outcome.DONE]


def _final_of(take: Take) -> tuple[float, ...]:
    return next((figure.values for figure in figures([take]) if figure.name == "time to final"), ())


def _usual(trial: Trial) -> Take | None:
    """The session whose time to final is in the middle, else any with text."""
    timed = sorted((values[0], take.log.session, take) for take in _done(trial) if (values := _final_of(take)))
    if timed:
        return timed[len(timed) // 2][2]
    return next((take for take in _done(trial) if take.log.shown), None)
