"""This project's sessions in this process, on the clock of the recording: what the machine does not slow down."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy.in_process import InProcess
from benchmarks.accuracy.sources import NoTranscript
from benchmarks.accuracy.working import work_through
from benchmarks.common.speech import NoSpeech
from benchmarks.turns.decided import Decisions, Played
from benchmarks.turns.rows import Row


async def simulate(source: InProcess, rows: Sequence[Row], decisions: Decisions) -> None:
    """Play every row to a session of its own."""

    async def work(row: Row) -> None:
        language = row.language if row.language in source.languages else None
        try:
            transcript = await source.stream(row.audio(), language, lambda _: None)
        except (NoTranscript, NoSpeech) as error:
            decisions.left_out.append(f"{row.id}: {error}")
            return
        ends = (utterance.paused_s for utterance in transcript.utterances.values())
        decisions.played.append(Played(row, tuple(end for end in ends if end is not None)))

    await work_through(rows, source.at_once, work, title=decisions.name)
