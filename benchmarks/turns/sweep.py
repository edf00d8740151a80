"""eot-bench's measure: false cut-offs against the delay after true ends, over all policies of three settings.

A policy ends a turn once a score is above `threshold`, but not before a silence of `action_delay_s`; and after a
silence of `timeout_s` whatever the score. A pause within a turn is *cut off* if the policy would end the turn before
speech goes on. The *latency* is the silence that a listener waits through at a true end: how long the policy waits, not
how long it computes. Pauses shorter than 0.2 s or longer than 5 s do not count.

Definitions, grids and filters: https://github.com/livekit/eot-bench (Apache-2.0), its README and report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.turns.rows import Silence

THRESHOLDS = tuple(number / 100 for number in range(101))
ACTION_DELAYS_S = tuple(number / 10 for number in range(2, 11))
TIMEOUTS_S = tuple(number / 2 for number in range(2, 8))
SILENCES_S = tuple(number / 100 for number in range(20, 351))
"""Fixed silences that are tried for the baseline."""
PAUSES_S = (0.2, 5.0)
"""Shortest and longest pause within a turn that counts."""
LATENCY_BUDGETS_S = (0.3, 0.6)
CUTOFF_BUDGETS = (0.05, 0.10)
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Scored:
    """One silence and how likely it seemed to be the end of the turn, as it went on."""

    silence: Silence
    scores: tuple[tuple[float, float], ...] = ()
    """(length of the silence so far in seconds, score from 0 to 1), in order."""


@dataclass(frozen=True, slots=True)
class Point:
    """A policy and what it does. Without a threshold, only the silence counts."""

    threshold: float | None
    action_delay_s: float
    timeout_s: float
    cutoff_rate: float
    """Share of the pauses that are cut off."""
    mean_latency_s: float
    detect_rate: float
    """Share of the true ends that are decided by the score, before the timeout."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def counted(scored: Iterable[Scored]) -> tuple[list[Scored], list[Scored]]:
    """The pauses that count, and the ends."""
    pauses, ends = [], []
    shortest, longest = PAUSES_S
    for one in scored:
        if one.silence.is_end:
            ends.append(one)
        elif shortest - _EPSILON <= one.silence.length_s <= longest + _EPSILON:
            pauses.append(one)
    return pauses, ends


def sweep(scored: Sequence[Scored]) -> list[Point]:
    """Every policy; empty where there are no pauses or no ends."""
    pauses, ends = counted(scored)
    if not pauses or not ends:
        return []
    lengths = _lengths(pauses)
    points = []
    for threshold in THRESHOLDS:
        pause_fires, end_fires = _fires(pauses, threshold), _fires(ends, threshold)
        for delay in ACTION_DELAYS_S:
            by_score = lengths > np.maximum(delay, pause_fires) + _EPSILON
            waits = np.maximum(delay, end_fires)
            for timeout in (one for one in TIMEOUTS_S if one + _EPSILON >= delay):
                cut = by_score | (lengths > timeout + _EPSILON)
                detected = waits <= timeout + _EPSILON
                latency = np.where(detected, waits, timeout).mean()
                points.append(
                    Point(threshold, delay, timeout, float(cut.mean()), float(latency), float(detected.mean()))
                )
    return points


def silence_sweep(scored: Sequence[Scored]) -> list[Point]:
    """The baseline: every fixed silence."""
    pauses, ends = counted(scored)
    if not pauses or not ends:
        return []
    lengths = _lengths(pauses)
    return [Point(None, wait, wait, float((lengths > wait + _EPSILON).mean()), wait, 1.0) for wait in SILENCES_S]


def fewest_cutoffs(points: Iterable[Point], latency_s: float) -> Point | None:
    """The policy with the fewest cut-offs among those within a mean latency; None if there is none."""
    within = [point for point in points if point.mean_latency_s <= latency_s + _EPSILON]
    return min(within, key=lambda point: (point.cutoff_rate, point.mean_latency_s), default=None)


def least_latency(points: Iterable[Point], cutoff_rate: float) -> Point | None:
    """The policy with the least mean latency among those within a rate of cut-offs; None if there is none."""
    within = [point for point in points if point.cutoff_rate <= cutoff_rate + _EPSILON]
    return min(within, key=lambda point: (point.mean_latency_s, point.cutoff_rate), default=None)


def frontier(points: Iterable[Point]) -> list[Point]:
    """The policies than which none is both quicker and cuts off less, quickest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.mean_latency_s, point.cutoff_rate)):
        if not best or point.cutoff_rate < best[-1].cutoff_rate - _EPSILON:
            best.append(point)
    return best


def _lengths(scored: Sequence[Scored]) -> NDArray[np.float64]:
    return np.array([one.silence.length_s for one in scored])


def _fires(scored: Sequence[Scored], threshold: float) -> NDArray[np.float64]:
    """When each score first is above the threshold, in seconds of silence; infinite if never."""
    return np.array(
        [next((at for at, score in one.scores if score > threshold), np.inf) for one in scored], dtype=np.float64
    )
