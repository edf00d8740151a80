"""Reads the packet log of a load, as a program that evaluates one would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common.session_log import Outcome, Sent, SessionLog, Shown


def read_packets(file: Path) -> dict[int, list[SessionLog]]:
    """The sessions that count, by the number of streams of their run."""
    runs: dict[int, dict[int, SessionLog]] = {}
    with file.open(encoding="utf-8") as lines:
        for packet in map(json.loads, lines):
            sessions = runs.setdefault(packet["streams"], {})
            if packet["packet"] == "begin":
                if packet["counts"]:
                    sessions[packet["session"]] = SessionLog(packet["clip"], packet["session"])
            elif log := sessions.get(packet["session"]):
                _add(log, packet)
    return {streams: list(sessions.values()) for streams, sessions in runs.items()}


def _add(log: SessionLog, packet: Mapping[str, Any]) -> None:
    if packet["packet"] == "sent":
        log.sent.append(Sent(packet["at_s"], packet["audio_s"]))
    elif packet["packet"] == "shown":
        log.shown.append(Shown(packet["at_s"], packet["final"], packet["partial"]))
    elif packet["packet"] == "end":
        log.finalize_s, log.ended_s = packet["finalize_s"], packet["ended_s"]
        log.asked_s = packet["asked_s"]
        log.outcome, log.reason = Outcome(packet["outcome"]), packet["reason"]
