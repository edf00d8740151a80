"""`long`: one long recording in one session: does it stay right, in time and small to the end?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.accuracy.side_by_side import Column, columns_of
from benchmarks.accuracy.sources import NoTranscript, Source, Transcript
from benchmarks.accuracy.word_errors import Errors, count_errors
from benchmarks.common.normalization import measure_of, units
from benchmarks.common.speech import Clip, NoSpeech
from streaming_asr.core.recognizer import SAMPLE_RATE

LOST_UNITS = 4
"""This many spoken words in a row without any in the text are a lost passage, not a slip of the recognizer."""
DOUBLED_UNITS = 3
"""This many words in a row that repeat those just before them, and were said only once, are a doubled passage."""
QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Passage:
    """Words that follow one another."""

    text: str
    place: int
    """Words that were said before it."""


@dataclass(frozen=True, slots=True)
class LongSession:
    """The results of one recording."""

    id: str
    language: str
    seconds: float
    errors: Errors
    offline: Errors | None
    utterances: int
    lags_s: tuple[tuple[float, ...], ...] | None
    """By quarter of the recording: from the end of each utterance's speech to its final."""
    memory_mib: tuple[float, ...]
    """At the beginning and after each quarter; zeros where it is not known."""
    lost: tuple[Passage, ...]
    doubled: tuple[Passage, ...]
    text: str


@dataclass(slots=True)
class LongSessions:
    """Fills while it runs."""

    done: list[LongSession] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    model: str = ""

    async def run(self, streams: Source, files: Source, recordings: Sequence[Clip], *, detect: bool) -> None:
        """One recording after the other."""
        self.model = streams.model
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            for clip in recordings:
                try:
                    await self._transcribe(clip, streams, files, progress, None if detect else clip.language)
                except (NoTranscript, NoSpeech) as error:
                    self.left_out.append(f"{clip.id}: {error}")

    async def _transcribe(
        self, clip: Clip, streams: Source, files: Source, progress: Progress, language: str | None
    ) -> None:
        if streams.languages and clip.language not in streams.languages:
            raise NoTranscript(f"{streams.model} does not know {clip.language!r}")
        audio = clip.audio()
        seconds = len(audio) / SAMPLE_RATE
        task = progress.add_task(clip.id, total=seconds)
        memory = [streams.memory_bytes()]

        def on_progress(streamed_s: float) -> None:
            progress.update(task, completed=streamed_s)
            if len(memory) < QUARTERS and streamed_s >= len(memory) * seconds / QUARTERS:
                memory.append(streams.memory_bytes())

        stream = await streams.stream(audio, language, on_progress)
        memory.append(streams.memory_bytes())
        said, recognized = units(clip.text, clip.language), units(stream.finals, clip.language)
        columns = columns_of(said, recognized)
        self.done.append(
            LongSession(
                id=clip.id,
                language=clip.language,
                seconds=seconds,
                errors=count_errors(said, recognized),
                offline=count_errors(said, units(await files.offline(audio, language), clip.language)),
                utterances=len(stream.utterances),
                lags_s=_by_quarter(stream, seconds) if streams.has_lags else None,
                memory_mib=tuple(size / 2**20 for size in memory),
                lost=tuple(lost_passages(columns)),
                doubled=tuple(doubled_passages(columns)),
                text=stream.finals,
            )
        )

    def show(self, console: Console) -> None:
        for session in self.done:
            console.print(_summary(session, self.model), markup=False)
            console.print(_quarters(session))
            for name, passages in (("lost", session.lost), ("doubled", session.doubled)):
                console.print(f"{name} passages: {len(passages)}")
                for passage in passages:
                    console.print(f"  after {passage.place} words: {passage.text}", markup=False)
        for reason in self.left_out:
            console.print(f"left out: {reason}", style="yellow", markup=False)

    def as_json(self) -> dict[str, Any]:
        return {"model": self.model, "left_out": self.left_out, "sessions": [_as_json(one) for one in self.done]}


def lost_passages(columns: Sequence[Column]) -> list[Passage]:
    """Runs of at least `LOST_UNITS` words that were said and are not in the text."""
    found: list[Passage] = []
    run: list[str] = []
    for place, column in enumerate([*(column for column in columns if column.said), Column("end", ("end",))]):
        if not column.recognized[0]:
            run.append(column.said)
            continue
        if len(run) >= LOST_UNITS:
            found.append(Passage(" ".join(run), place - len(run)))
        run = []
    return found


def doubled_passages(columns: Sequence[Column]) -> list[Passage]:
    """Runs of at least `DOUBLED_UNITS` words that are twice in the text and were said once."""
    recognized = [(column.recognized[0], bool(column.said)) for column in columns if column.recognized[0]]
    said_before = np.cumsum([0, *(said for _, said in recognized)])
    found: list[Passage] = []
    place = 0
    while place < len(recognized):
        length = _inserted_run(recognized, place)
        words = [word for word, _ in recognized[place : place + length]]
        # An alignment may count either copy as the inserted one.
        before = [word for word, _ in recognized[max(0, place - length) : place]]
        after = [word for word, _ in recognized[place + length : place + 2 * length]]
        if length >= DOUBLED_UNITS and words in (before, after):
            found.append(Passage(" ".join(words), int(said_before[place])))
        place += max(1, length)
    return found


def _inserted_run(recognized: Sequence[tuple[str, bool]], place: int) -> int:
    length = 0
    while place + length < len(recognized) and not recognized[place + length][1]:
        length += 1
    return length


def _by_quarter(stream: Transcript, seconds: float) -> tuple[tuple[float, ...], ...]:
    quarters: list[list[float]] = [[] for _ in range(QUARTERS)]
    for utterance in stream.utterances.values():
        quarters[min(QUARTERS - 1, int(QUARTERS * utterance.end_s / seconds))].append(utterance.lag_s)
    return tuple(map(tuple, quarters))


def _summary(session: LongSession, model: str) -> str:
    measure = measure_of(session.language)
    offline = f", whole file {100 * session.offline.rate:.2f} %" if session.offline else ""
    return (
        f"\n{session.id}: {session.seconds / 60:.1f} min by {model}, {session.utterances} utterances; "
        f"{measure} {100 * session.errors.rate:.2f} % of {session.errors.reference}{offline}"
    )


def _quarters(session: LongSession) -> Table:
    table = Table()
    for head in ("quarter", "finals", "lag p50, s", "lag p95, s", "lag max, s", "memory, MiB"):
        table.add_column(head, justify="right")
    for number in range(QUARTERS):
        lags = session.lags_s[number] if session.lags_s else ()
        figures = [f"{np.percentile(lags, p):.2f}" for p in (50, 95, 100)] if lags else ["–"] * 3
        memory = f"{session.memory_mib[number + 1]:.0f}" if any(session.memory_mib) else "–"
        table.add_row(str(number + 1), str(len(lags)) if session.lags_s else "–", *figures, memory)
    return table


def _as_json(session: LongSession) -> dict[str, Any]:
    errors = {"streamed": session.errors, "offline": session.offline}
    return {
        "id": session.id,
        "language": session.language,
        "seconds": session.seconds,
        "utterances": session.utterances,
        "rate": {way: one.rate for way, one in errors.items() if one},
        "lags_s": session.lags_s,
        "memory_mib": session.memory_mib,
        "lost": [{"after": passage.place, "text": passage.text} for passage in session.lost],
        "doubled": [{"after": passage.place, "text": passage.text} for passage in session.doubled],
        "text": session.text,
    }
