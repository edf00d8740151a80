"""A run as JSON: its configuration, every figure, and how each session went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.common.session_log import Outcome
from benchmarks.common.stats import spread
from benchmarks.load.figures import (
    FINAL,
    after_pipecat_stops,
    after_rests,
    by_set,
    figures,
    has_speech,
    steadiness,
    without_final,
    word_errors,
)
from benchmarks.load.search import Search
from benchmarks.load.speaking import Take
from benchmarks.load.symptoms import symptoms
from benchmarks.load.trial import Trial

FORMAT = 1
"""Of the JSON; grows when a field changes its meaning."""
MOST_VALUES = 20_000
"""Of each figure that are kept one by one, for its distribution."""
ENVELOPE = 400
"""Points of the loudness of the example session."""


def as_json(
    configuration: Mapping[str, Any],
    setting: Mapping[str, Any],
    started: str,
    trials: Sequence[Trial],
    search: Search | None,
) -> dict[str, Any]:
    """Everything that is known of a run, or of the runs of a search.

    Args:
        started: ISO 8601.
    """
    return {
        "format": FORMAT,
        "started": started,
        "configuration": dict(configuration),
        **setting,
        "runs": [_trial(trial, configuration["objective_s"]) for trial in trials],
        "streams_at_objective": _search(search, configuration["objective_s"]) if search else None,
    }


def _trial(trial: Trial, objective_s: float) -> dict[str, Any]:
    run = trial.run
    measured = run.measured()
    return {
        "streams": run.plan.streams,
        "valid": not trial.invalid_because,
        "invalid_because": trial.invalid_because or None,
        "interrupted": run.interrupted,
        "took_s": run.took_s,
        "all_streams_after_s": run.full_s,
        "audio_s": trial.audio_s,
        "audio_per_stream": run.load(),
        "sessions": _sessions(run.outcomes(), measured),
        **_figures(measured),
        "sets": {
            name: {"sessions": _sessions(Counter(take.log.outcome for take in takes), takes), **_figures(takes)}
            for name, takes in by_set(measured).items()
        },
        "symptoms": [
            {"name": symptom.name, "sessions": symptom.sessions, "example": symptom.example}
            for symptom in symptoms(measured, objective_s)
        ],
        "generator": generator(trial),
        "server": trial.server,
        "server_process": trial.process,
        "accelerators": trial.accelerators,
        "each_session": [_take(take) for take in run.takes],
        "example": _example(measured),
    }


def _sessions(outcomes: Mapping[Outcome, int], measured: Sequence[Take]) -> dict[str, int]:
    counted = {outcome.value: outcomes.get(outcome, 0) for outcome in Outcome}
    return counted | {"measured": len(measured), "without_final": without_final(measured)}


def _figures(takes: Sequence[Take]) -> dict[str, Any]:
    errors = word_errors(takes)
    steady = steadiness(takes)
    rests, stops = after_rests(takes), after_pipecat_stops(takes)
    return {
        "figures": {
            figure.name: {**spread(figure.values), "values": [round(value, 3) for value in figure.values[:MOST_VALUES]]}
            for figure in figures(takes)
        },
        "rests": {"all": len(rests), "final": sum(value is not None for value in rests)},
        "stops_in_talk": {"all": len(stops), "final": sum(value is not None for value in stops)},
        "word_errors": {**asdict(errors), "rate": errors.rate},
        "stability": {**asdict(steady), "erasure": steady.erasure, "upwr": steady.upwr},
    }


def generator(trial: Trial) -> dict[str, Any]:
    """How well the tool itself did."""
    return {
        "lag_s": spread(trial.lag_s),
        "cores": trial.generator_cores,
        "niceness": trial.generator_niceness,
        "held_back_by_server_s": sum(take.departures.held_s for take in trial.run.takes),
        "open_s": spread([take.open_s for take in trial.run.measured() if take.log.outcome is not Outcome.REFUSED]),
    }


def _example(takes: Sequence[Take]) -> dict[str, Any] | None:
    """One session whole, to be looked at: the one whose last final came as late as most did."""
    finished = [take for take in takes if take.log.outcome is Outcome.DONE and take.log.shown]
    if not finished:
        return None
    ordered = sorted(finished, key=lambda take: take.log.shown[-1].at_s - take.utterance.speech_s)
    take = ordered[len(ordered) // 2]
    pcm = np.frombuffer(b"".join(chunk.pcm for chunk in take.utterance.speech), "<i2").astype(np.float32) / 32768
    edges = np.linspace(0, len(pcm), ENVELOPE + 1).astype(int)
    envelope = [float(np.abs(pcm[start:end]).max(initial=0)) for start, end in pairwise(edges)]
    return {
        "session": take.log.session,
        "clip": take.log.clip,
        "reference": take.utterance.clip.text,
        "words": take.utterance.words,
        "speech_s": take.utterance.speech_s,
        "audio_s": take.utterance.duration_s,
        "envelope": [round(value, 3) for value in envelope],
        "shown": [[round(shown.at_s, 3), shown.final, shown.partial] for shown in take.log.shown],
    }


def _take(take: Take) -> dict[str, Any]:
    log = take.log
    return {
        "session": log.session,
        "stream": take.stream,
        "clip": log.clip,
        "set": take.utterance.clip.of_set,
        "language": take.utterance.clip.language,
        "reference": take.utterance.clip.text,
        "outcome": log.outcome.value if take.ended else "dropped",
        "reason": log.reason or None,
        "measured": take.measured and take.ended,
        "began_s": take.began_s,
        "open_s": take.open_s,
        "audio_s": take.departures.due_s[-1] if take.departures.due_s else 0.0,
        "lag_max_s": max(take.departures.lag_s, default=0.0),
        "ended_s": log.ended_s,
        "final": log.shown[-1].final if log.shown else "",
        "partial": log.shown[-1].partial if log.shown else "",
    }


def _search(search: Search, objective_s: float) -> dict[str, Any]:
    return {
        "objective": f"p95 of the time to the final within {objective_s:g} s, no error",
        "streams": search.held,
        "at_least": search.missed is None,
        "tried": [{"streams": streams, "held": held} for streams, held in search.tried],
    }


def held(trial: Trial, objective_s: float) -> bool:
    """Whether a run was within the objective: p95 of TTFS, where a clip without a final is late, and no error."""
    outcomes = trial.run.outcomes()
    measured = trial.run.measured()
    finals = next(figure.values for figure in figures(measured) if figure.name == FINAL)
    wanted = max(len(finals), sum(map(has_speech, measured)))
    in_time = sum(value <= objective_s for value in finals)
    return not outcomes[Outcome.REFUSED] and not outcomes[Outcome.FAILED] and in_time > 0 and in_time >= 0.95 * wanted
