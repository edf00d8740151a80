"""Any server, through the load generator's protocols, at the pace of speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.working import work_through
from benchmarks.common.adapters import Adapter
from benchmarks.common.session_log import Outcome, SessionLog
from benchmarks.common.speech import Clip, NoSpeech
from benchmarks.load.speaking import Manner, Take, speak
from benchmarks.load.utterances import utterance_of
from benchmarks.turns.decided import Decisions, Played
from benchmarks.turns.rows import Row


async def play(
    adapter: Adapter, rows: Sequence[Row], decisions: Decisions, *, at_once: int, chunk_ms: int, send_language: bool
) -> None:
    """Play every row in a session of its own."""

    async def work(row: Row) -> None:
        clip = Clip(row.id, Path(), row.language, "")
        try:
            audio = row.audio()
        except NoSpeech as error:
            decisions.left_out.append(f"{row.id}: {error}")
            return
        utterance = utterance_of(clip, audio, rate=adapter.sample_rate, chunk_ms=chunk_ms, trailing_s=0)
        take = Take(SessionLog(row.id), 0, utterance, 0.0)
        await speak(adapter, take, Manner(send_language=send_language))
        if take.log.outcome is not Outcome.DONE:
            decisions.left_out.append(f"{row.id}: {take.log.outcome.value}: {take.log.reason}")
            return
        # What comes after the end of the stream was asked for is no decision.
        asked = take.log.finalize_s if take.log.finalize_s is not None else float("inf")
        decisions.played.append(Played(row, tuple(end for end in take.log.turn_ends if end < asked)))

    await work_through(rows, at_once, work, title=decisions.name)
