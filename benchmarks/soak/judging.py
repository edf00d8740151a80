"""Whether what a server takes grows: samples over time -> sentences about what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

GROWTH = 0.10
"""Growth of memory from the second quarter of a run to its last that still counts as flat."""
GROWTH_MIB = 16.0
"""Less than this is no growth, whatever the share."""
SPARE = 5
"""Descriptors or tasks more than before the run that do not count: four descriptors of the two decoders that wait for
the next recording and for the next file of a live session, and a connection that is just being closed."""
LAG_S = 0.1
"""The event loop's 99th percentile in any quarter; people do not notice less."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A server's process at one moment."""

    at_s: float
    resident_mib: float
    descriptors: int
    threads: int
    tasks: int
    sessions: int
    lag_p99_s: float | None
    """Upper bound of the 99th percentile since the sample before; None where nothing was measured."""


@dataclass(frozen=True, slots=True)
class Quarter:
    """A quarter of a run: medians, but for the lag."""

    resident_mib: float
    descriptors: float
    tasks: float
    lag_p99_s: float
    """The median of its samples: one stall of the machine is no trend."""


def quarters(samples: Sequence[Sample]) -> list[Quarter]:
    """The four quarters of a run, by time. At least four samples are needed."""
    begin, end = samples[0].at_s, samples[-1].at_s
    parts: list[list[Sample]] = [[] for _ in range(4)]
    for sample in samples:
        parts[min(3, int(4 * (sample.at_s - begin) / max(end - begin, 1e-9)))].append(sample)
    return [
        Quarter(
            median(sample.resident_mib for sample in part),
            median(sample.descriptors for sample in part),
            median(sample.tasks for sample in part),
            median(sample.lag_p99_s or 0.0 for sample in part),
        )
        for part in parts
        if part
    ]


def complaints(before: Sample, during: Sequence[Sample], after: Sample) -> Iterator[str]:
    """What is wrong.

    Args:
        before: with no client there.
        during: of the run, at even intervals.
        after: when all clients had left.
    """
    _, second, *_, last = quarters(during)
    grown = last.resident_mib - second.resident_mib
    if grown > max(GROWTH_MIB, GROWTH * second.resident_mib):
        yield f"memory grew from {second.resident_mib:.0f} MiB in the second quarter to {last.resident_mib:.0f} MiB"
    for name in ("descriptors", "tasks"):
        if getattr(last, name) > getattr(second, name) + SPARE + GROWTH * getattr(second, name):
            yield f"{name} grew from {getattr(second, name):g} in the second quarter to {getattr(last, name):g}"
        left = getattr(after, name) - getattr(before, name)
        if left > SPARE:
            yield f"{left} {name} were left behind"
    if after.sessions:
        yield f"{after.sessions} sessions were left behind"
    if last.lag_p99_s > max(LAG_S, 2 * second.lag_p99_s):
        yield f"the event loop's lag grew from {second.lag_p99_s:g} to {last.lag_p99_s:g} s"


def as_json(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    return [asdict(sample) for sample in samples]
