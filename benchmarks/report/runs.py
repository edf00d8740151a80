"""What a report reads of the JSON of `benchmarks.load`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANY_ERRORS = 0.2
"""Of the words."""
FIRST_TEXT, FINAL, WORD = "first text", "time to final", "word shown after it was said"
BY_PIPECAT = "time to final, Pipecat's rule"


class BadRun(Exception):
    """A file is not a result of `benchmarks.load`. The message says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """One number of streams against one server."""

    name: str
    result: dict[str, Any]
    """As in the JSON."""
    objective_s: float

    @property
    def streams(self) -> int:
        return int(self.result["streams"])

    @property
    def errors(self) -> float | None:
        rate: float | None = self.result["word_errors"]["rate"]
        return rate

    def values(self, figure: str) -> list[float]:
        found: list[float] = self.result["figures"].get(figure, {}).get("values", [])
        return found

    def at(self, figure: str, percentile: str) -> float | None:
        """Seconds."""
        found: float | None = self.result["figures"].get(figure, {}).get(percentile)
        return found

    def of_sets(self) -> list[Run]:
        """The same run, of each set of clips by itself, where there are several."""
        sets: dict[str, Any] = self.result.get("sets", {})
        if len(sets) < 2:
            return []
        whole = self.result | {"symptoms": [], "server_process": None}
        return [Run(f"{self.name}: {name}", whole | of_set, self.objective_s) for name, of_set in sets.items()]

    def faults(self) -> list[str]:
        """What keeps the run from being good, in words; the first is the worst."""
        found = []
        if self.result["invalid_because"]:
            found.append(f"the figures can't be trusted: {self.result['invalid_because']}")
        sessions = self.result["sessions"]
        ended = [outcome for outcome in ("refused", "failed") if sessions.get(outcome)]
        found += [f"{sessions[outcome]} sessions {outcome}" for outcome in ended]
        if without := sessions.get("without_final"):
            found.append(f"{without} sessions ended without all of their text final, and have no time to final")
        p95 = self.at(FINAL, "p95")
        if p95 is None:
            found.append("no session got a final text")
        elif p95 > self.objective_s:
            found.append(f"one final in twenty takes more than {p95:.2f} s; {self.objective_s:g} s is the objective")
        if self.errors is not None and self.errors > MANY_ERRORS:
            found.append(f"{self.errors:.0%} of the words are wrong, so quick text is of no use")
        found += [
            f"{symptom['name']} in {symptom['sessions']} sessions"
            for symptom in self.result["symptoms"]
            if symptom["name"] not in ended
        ]
        return found


@dataclass(frozen=True, slots=True)
class Document:
    """One file: the runs of one server, with all that is known of how they were made."""

    name: str
    result: dict[str, Any]
    runs: tuple[Run, ...]


def read(file: Path, name: str | None = None) -> Document:
    """Read a result of `benchmarks.load`.

    Args:
        name: of the server; by default that of the file.

    Raises:
        BadRun: the file can't be read.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRun(f"{file} can't be read: {error}") from None
    return document(result, name or file.stem)


def document(result: Any, name: str) -> Document:
    """What `benchmarks.load.results.as_json` made.

    Raises:
        BadRun: it is something else.
    """
    try:
        objective_s = float(result["configuration"]["objective_s"])
        runs = tuple(Run(name, run, objective_s) for run in result["runs"])
        if not runs or any("figures" not in run.result for run in runs):
            raise KeyError("runs")
    except (KeyError, TypeError, ValueError) as error:
        raise BadRun(f"{name} is not a result of benchmarks.load: it lacks {error}") from None
    return Document(name, result, runs)
