"""The packet log: every chunk and every change of text with its time, so that any figure can be computed anew.

A file of JSON lines. `begin` opens a session and says all that is known of it beforehand; then come `sent`, `shown` and
`end`, which all name the session by its number. Times are those of `benchmarks.common.session_log`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.load.speaking import Take


def write_packets(file: Path, runs: Iterable[tuple[int, Iterable[Take]]]) -> None:
    """Write the sessions of runs.

    Args:
        runs: number of streams, and the sessions, those included that do not count.
    """
    with file.open("w", encoding="utf-8") as out:
        for streams, takes in runs:
            for take in takes:
                for line in _lines(take, streams):
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")


def _lines(take: Take, streams: int) -> Iterator[Mapping[str, Any]]:
    log, clip = take.finished_log(), take.utterance.clip
    number = {"streams": streams, "session": log.session}
    yield number | {
        "packet": "begin",
        "stream": take.stream,
        "clip": log.clip,
        "language": clip.language,
        "set": clip.of_set,
        "reference": clip.text,
        "turns": clip.turns,
        "words": take.utterance.words,
        "speech_s": take.utterance.speech_s,
        "audio_s": take.utterance.duration_s,
        "began_s": take.began_s,
        "open_s": take.open_s,
        "counts": take.measured and take.ended,
    }
    for chunk, lag_s in zip(log.sent, take.departures.lag_s, strict=True):
        yield number | {"packet": "sent", "at_s": chunk.at_s, "audio_s": chunk.audio_s, "lag_s": lag_s}
    for shown in log.shown:
        yield number | {"packet": "shown", "at_s": shown.at_s, "final": shown.final, "partial": shown.partial}
    yield number | {
        "packet": "end",
        "finalize_s": log.finalize_s,
        "asked_s": log.asked_s,
        "ended_s": log.ended_s,
        "held_s": take.departures.held_s,
        "outcome": log.outcome.value if take.ended else "dropped",
        "reason": log.reason,
    }
