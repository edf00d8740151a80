"""Percentiles of measured values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[Any]


def percentiles(values: Values, *ranks: float) -> tuple[float, ...] | None:
    """The percentiles of the given ranks (0 to 100), interpolated; None without values."""
    return tuple(float(value) for value in np.percentile(values, ranks)) if len(values) else None


def spread(values: Values) -> dict[str, float | int | None]:
    """The figures of a record: p50, p90, p95, p99, mean, the largest, and the number of values."""
    names = ("p50", "p90", "p95", "p99", "max")
    found = percentiles(values, 50, 90, 95, 99, 100) or (None,) * len(names)
    mean = float(np.mean(values)) if len(values) else None
    return {**dict(zip(names, found, strict=True)), "mean": mean, "n": len(values)}
