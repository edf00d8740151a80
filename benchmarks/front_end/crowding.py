"""What choosing the next decode costs where more sessions want one than the recognizer can serve; time is on paper."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass

from benchmarks.common.null_recognizer import NullRecognizer, null_hypothesis
from benchmarks.front_end.material import Material
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import DecodeJob
from streaming_asr.core.scheduler import Limits, Scheduler
from streaming_asr.core.session import Session
from streaming_asr.voice.detectors import make_detector

SLOTS = 64
DECODE_S = 0.1
"""On paper, of each decode: some 640 a second, for as many sessions as there are."""
LEAD_S = 3.0
"""Seconds before the measurement, in which the first utterances open."""


@dataclass(frozen=True, slots=True)
class Crowding:
    """One number of sessions."""

    sessions: int
    schedule_ms: float
    """CPU for a second of audio: choosing jobs, making them, taking their results."""
    decodes_per_s: float
    wanting: float
    """Share of the moments at which a session wanted a decode and did not have one."""


def measure_crowding(material: Material, sessions: int, seconds: float = 4.0) -> Crowding:
    """Stream to a number of sessions, all with partials.

    Args:
        material: at 16 kHz; the sessions play it from places spread over it.
        seconds: that count, of each session's audio.
    """
    # The cheapest detector: what it costs is not the question here.
    options = SessionOptions(vad="webrtc", sample_rate=material.sample_rate)
    capabilities = NullRecognizer(SLOTS).capabilities
    scheduler = Scheduler(SLOTS, Limits(max_sessions=sessions, final_objective_s=600))
    crowd = [Session(f"s{number}", options, capabilities, make_detector) for number in range(sessions)]
    for session in crowd:
        scheduler.add(session, 0.0)
    running: list[tuple[float, int, Session, DecodeJob]] = []
    chunk_s = material.chunk_ms / 1000
    first, last = round(LEAD_S / chunk_s), round((LEAD_S + seconds) / chunk_s)
    took, decodes, wanting = 0.0, 0, 0
    for turn in range(last):
        if turn == first:
            took, decodes, wanting = 0.0, 0, 0
        for number, session in enumerate(crowd):
            now = (turn + number / sessions) * chunk_s
            place = (turn + number * len(material.chunks) // sessions) % len(material.chunks)
            session.receive(material.chunks[place], now)
            began = time.thread_time()
            while running and running[0][0] <= now:
                _, _, owner, job = heapq.heappop(running)
                scheduler.finished(job.id, now)
                owner.complete(job.id, null_hypothesis(job), now)
                _update(scheduler, owner, now)
            _update(scheduler, session, now)
            while chosen := scheduler.next_job(now):
                heapq.heappush(running, (now + DECODE_S, chosen.job.id, chosen.session, chosen.job))
                decodes += 1
            took += time.thread_time() - began
            wanting += session.demand() is not None
    processed_s = sessions * seconds
    return Crowding(sessions, took * 1000 / processed_s, decodes / seconds, wanting / (sessions * (last - first)))


def _update(scheduler: Scheduler, session: Session, now: float) -> None:
    session.take_superseded()
    session.take_released()
    scheduler.update(session, now)
