"""One session: a clip spoken to a server at the pace of speech, and what came back."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from benchmarks.common.adapters import Adapter, LiveSession, Reading, SessionFailed, SessionRefused
from benchmarks.common.session_log import Outcome, Sent, SessionLog, Shown
from benchmarks.load.pacing import Clock, Departures, WallClock
from benchmarks.load.utterances import Utterance

_REASON_WAIT_S = 1.0
"""When sending fails, the reason may be among the messages that are not read yet."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How sessions are held."""

    finalize: bool = False
    """Ask for the final at the end of the clip, or at each of its stops if it has any, and measure from there."""
    send_language: bool = True
    patience_s: float = 30.0
    """How long a session may go on after its audio has ended."""


@dataclass(slots=True)
class Take:
    """One session of a run."""

    log: SessionLog
    stream: int
    """Which of the speakers at once."""
    utterance: Utterance
    began_s: float
    """On the clock of the run: when the connection was begun."""
    measured: bool = True
    """Whether it counts; those that only keep the load up do not."""
    ended: bool = False
    """Whether it came to its end, good or bad; else the run was ended first."""
    open_s: float = 0.0
    """From the begin of the connection to the open session."""
    departures: Departures = field(default_factory=Departures)

    def finished_log(self) -> SessionLog:
        """The log with its chunks, which are kept apart while the run goes on."""
        if not self.log.sent:
            self.log.sent = [Sent(*pair) for pair in zip(self.departures.left_s, self.departures.due_s, strict=True)]
        return self.log


async def speak(adapter: Adapter, take: Take, manner: Manner, clock: Clock | None = None) -> None:
    """Hold the session of a take, and note in it all that happens; what goes wrong is its outcome."""
    clock = clock or WallClock()
    language = take.utterance.clip.language if manner.send_language else ""
    began = clock.now()
    try:
        async with adapter.session("" if language == "none" else language) as session:
            zero = clock.now()
            take.open_s = zero - began
            await _converse(session, take, manner, clock, zero)
    except SessionRefused as refused:
        take.log.outcome, take.log.reason = Outcome.REFUSED, str(refused)
    except SessionFailed as failed:
        take.log.outcome, take.log.reason = Outcome.FAILED, str(failed)
    take.ended = True


async def _converse(session: LiveSession, take: Take, manner: Manner, clock: Clock, zero: float) -> None:
    sender = asyncio.create_task(_send(session, take, manner, clock, zero))
    reader = asyncio.create_task(_read(session, take, clock, zero))
    try:
        await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
        if not sender.done():
            await reader
            if take.log.finalize_s is None:
                raise SessionFailed("the server ended the session before the audio was over")
            # Asked to finalize, a protocol that can't has ended the stream.
            return
        if sender.exception() is not None:
            await asyncio.wait({reader}, timeout=_REASON_WAIT_S)
            await (reader if reader.done() else sender)
        await asyncio.wait({reader}, timeout=manner.patience_s)
        if not reader.done():
            raise SessionFailed(f"not done {manner.patience_s:g} s after the end of the audio")
        await reader
        await sender
    finally:
        for task in (sender, reader):
            task.cancel()
        await asyncio.gather(sender, reader, return_exceptions=True)


async def _send(session: LiveSession, take: Take, manner: Manner, clock: Clock, zero: float) -> None:
    stops = deque(take.utterance.stops_s or (take.utterance.speech_s,))
    for chunk in (*take.utterance.speech, *take.utterance.silence):
        await clock.until(zero + chunk.end_s)
        began = clock.now() - zero
        await session.send(chunk.pcm)
        take.departures.add(chunk.end_s, began, clock.now() - zero)
        if manner.finalize and stops and chunk.end_s >= stops[0]:
            stops.popleft()
            take.log.finalize_s = clock.now() - zero
            if take.utterance.stops_s:
                take.log.asked_s.append(take.log.finalize_s)
            await session.finalize()
    if not take.utterance.silence and take.log.finalize_s is None:
        # The end of the stream is what ends the utterance then.
        take.log.finalize_s = clock.now() - zero
    await session.finish()


async def _read(session: LiveSession, take: Take, clock: Clock, zero: float) -> None:
    shown = take.log.shown
    last = Reading("")
    async for reading in session.readings():
        if (reading.ends or 0) > (last.ends or 0) or (reading.ends is None and reading.final != last.final):
            take.log.turn_ends.append(clock.now() - zero)
        if reading != last:
            shown.append(Shown(clock.now() - zero, reading.final, reading.partial))
        last = reading
    take.log.ended_s = clock.now() - zero
