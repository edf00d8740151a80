"""A bound on how fast the log grows: what clients do wrong is logged, and they must not fill the disk with it."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

PER_MINUTE = 300
"""Lines of one kind."""
MAX_KINDS = 1000
"""Kinds that are remembered, the latest ones."""


@dataclass(slots=True)
class _Kind:
    until: float
    lines: int = 0
    left_out: int = 0


class LogRate(logging.Filter):
    """Leaves out lines of which there are too many in a minute, and says how many with the first of a later minute.

    Lines with the same message before its arguments are put in are of one kind.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        key = record.name, str(record.msg)[:200]
        kind = self._kinds.setdefault(key, _Kind(now + 60))
        self._kinds.move_to_end(key)
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        if now >= kind.until:
            if kind.left_out:
                record.msg, record.args = f"{record.getMessage()} ({kind.left_out} more like it were left out)", ()
            kind.until, kind.lines, kind.left_out = now + 60, 0, 0
        kind.lines += 1
        if kind.lines <= PER_MINUTE:
            return True
        kind.left_out += 1
        return False
