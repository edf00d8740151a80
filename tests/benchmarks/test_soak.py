"""What the soak takes for growth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from benchmarks.soak.judging import Sample, complaints, quarters

IDLE = Sample(at_s=0, resident_mib=200, descriptors=14, threads=7, tasks=6, sessions=0, lag_p99_s=None)
BUSY = dataclasses.replace(IDLE, resident_mib=300, descriptors=20, tasks=25, sessions=4, lag_p99_s=0.025)


def _run(changed: Callable[[int], dict[str, float]] = lambda minute: {}) -> list[Sample]:
    """An hour, with a sample a minute."""
    return [dataclasses.replace(BUSY, at_s=60.0 * minute, **changed(minute)) for minute in range(61)]


def test_a_server_that_takes_the_same_is_flat() -> None:
    assert not list(complaints(IDLE, _run(), IDLE))


def test_what_is_loaded_in_the_first_quarter_is_no_growth() -> None:
    assert not list(complaints(IDLE, _run(lambda minute: {"resident_mib": 200 + min(100, 10 * minute)}), IDLE))


@pytest.mark.parametrize(
    ("name", "per_minute", "words"),
    [("resident_mib", 2, "memory grew"), ("descriptors", 0.5, "descriptors grew"), ("tasks", 0.5, "tasks grew")],
)
def test_what_grows_by_the_minute_is_found(name: str, per_minute: float, words: str) -> None:
    grown = _run(lambda minute: {name: getattr(BUSY, name) + per_minute * minute})
    (complaint,) = complaints(IDLE, grown, IDLE)
    assert words in complaint


def test_a_lag_that_grows_is_found_and_one_stall_is_not() -> None:
    (complaint,) = complaints(IDLE, _run(lambda minute: {"lag_p99_s": 0.025 + 0.01 * minute}), IDLE)
    assert "lag" in complaint
    assert not list(complaints(IDLE, _run(lambda minute: {"lag_p99_s": 5.0 if minute == 55 else 0.025}), IDLE))


@pytest.mark.parametrize(("name", "left"), [("descriptors", 7), ("tasks", 7), ("sessions", 1)])
def test_what_stays_when_all_clients_have_left_is_found(name: str, left: int) -> None:
    after = dataclasses.replace(IDLE, **{name: getattr(IDLE, name) + left})
    (complaint,) = complaints(IDLE, _run(), after)
    assert f"{left} {name} were left behind" in complaint


def test_quarters_are_by_time() -> None:
    steps = quarters(_run(lambda minute: {"tasks": minute // 15}))
    assert [quarter.tasks for quarter in steps] == [0, 1, 2, 3]
