"""Ends of turns that a system declared while a recording was played to it: what they cut off, and how late they came.

Only a declared end can be seen from outside, not how sure the system was. So each silence has a score of 0 until an end
is declared in it, and of 1 from then on, as eot-bench has it for such systems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common.stats import spread
from benchmarks.turns.rows import Row, Silence
from benchmarks.turns.sweep import Scored, counted

LATE_S = 0.3
"""An end that comes this soon after a silence was decided in it: it is seen later by the time that messages take."""
_STEP_S = 0.1
"""eot-bench looks at a score once in this time."""


@dataclass(frozen=True, slots=True)
class Played:
    """One row, and the ends that a system declared in it."""

    row: Row
    ends_s: tuple[float, ...]
    """On the clock of the recording."""

    def declared(self, silence: Silence) -> float | None:
        """Seconds from the begin of a silence to the first end that was declared in it; None without one."""
        latest = silence.end_s + (0.0 if silence.is_end else LATE_S)
        return next((end - silence.start_s for end in self.ends_s if silence.start_s <= end <= latest), None)

    def scored(self) -> list[Scored]:
        """Every silence, for the sweep."""
        return [Scored(silence, self._scores(silence)) for silence in self.row.silences]

    def _scores(self, silence: Silence) -> tuple[tuple[float, float], ...]:
        wait = self.declared(silence)
        if wait is None:
            return ()
        step = math.ceil(wait / _STEP_S - 1e-9) * _STEP_S
        # A pause that was cut off stays so when the look at the score falls behind its end.
        return ((step if silence.is_end else min(step, silence.length_s - 1e-3), 1.0),)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.row.id,
            "silences": [
                {"start": one.start_s, "end": one.end_s, "is_end": one.is_end, "declared": self.declared(one)}
                for one in self.row.silences
            ],
            "ends": self.ends_s,
        }


@dataclass(slots=True)
class Decisions:
    """What one system did, as it is set up. Fills while it runs."""

    name: str
    played: list[Played] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Rows that failed, and why."""

    def scored(self) -> list[Scored]:
        return [scored for played in self.played for scored in played.scored()]

    @property
    def pauses(self) -> int:
        return len(counted(self.scored())[0])

    @property
    def cut_pauses(self) -> int:
        return sum(bool(one.scores) for one in counted(self.scored())[0])

    @property
    def cut_turns(self) -> int:
        """Turns of which at least one pause that counts was cut off."""
        return sum(any(one.scores for one in counted(played.scored())[0]) for played in self.played)

    @property
    def waits_s(self) -> list[float]:
        """From each true end to when it was declared, in the turns in which it was."""
        waits = (played.declared(played.row.silences[-1]) for played in self.played)
        return [wait for wait in waits if wait is not None]

    @property
    def missed(self) -> int:
        """Turns whose true end was never declared."""
        return len(self.played) - len(self.waits_s)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "turns": len(self.played),
            "pauses": self.pauses,
            "cut_pauses": self.cut_pauses,
            "cut_turns": self.cut_turns,
            "missed": self.missed,
            "wait_s": spread(self.waits_s),
            "left_out": self.left_out,
            "rows": [played.as_json() for played in self.played],
        }


def names_of(settings: Sequence[tuple[str, Any]]) -> str:
    """Settings as they were given, for a table."""
    return ", ".join(f"{name}={value}" for name, value in settings) or "as it is"
