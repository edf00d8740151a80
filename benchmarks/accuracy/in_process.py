"""A model in this process, through the session core, on a clock of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import psutil

from benchmarks.accuracy.sources import NoTranscript, OnProgress, SourceUnavailable, Transcript
from streaming_asr.core.events import Event, Final, Partial, SpeechEnded
from streaming_asr.core.options import RECORDED_ENDPOINT_MS, Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Audio,
    DecodeFailed,
    DecodeJob,
    Hypothesis,
    Kind,
    Recognizer,
    RecognizerDown,
    RecognizerUnavailable,
)
from streaming_asr.core.scheduler import Scheduler
from streaming_asr.core.session import Session
from streaming_asr.core.turn import TurnQuestion
from streaming_asr.engine.file_stream import stream_file
from streaming_asr.engine.runner import Broke, Listener, Runner
from streaming_asr.turns.detectors import make_turn_detector
from streaming_asr.voice.detectors import make_detector

CHUNK_S = 0.05
TRAILING_S = 1.0
"""Silence after the audio, so that its last utterance ends by itself as it would in a stream that goes on."""
_JUDGE_S = 0.05
"""How long a turn detector is taken to think about a pause."""
_SLOTS = 2
"""Decodes of one session that may run at once on the simulated clock: a final beside a partial of what follows it."""

_numbers = itertools.count(1)
"""Of sessions and jobs, unique within the process."""


class InProcess:
    """One recognizer, for offline decodes and for streams in simulated real time.

    Args:
        recognizer: not started yet.
        options: of the sessions, by name.
        decode_s: seconds of the audio's clock that every decode is taken to last, which makes results independent of
            the machine; None for the time that it really took.
    """

    has_lags = True

    def __init__(self, recognizer: Recognizer, options: Mapping[str, Any], decode_s: float | None) -> None:
        self._recognizer = recognizer
        self._options = options
        self._decode_s = decode_s
        self.has_partials = bool(options.get("partials", True))

    @property
    def model(self) -> str:
        return self._recognizer.capabilities.model

    @property
    def languages(self) -> tuple[str, ...]:
        return self._recognizer.capabilities.languages

    @property
    def at_once(self) -> int:
        return self._recognizer.capabilities.concurrency

    async def start(self) -> None:
        self._check_options()
        try:
            await self._recognizer.start()
        except RecognizerUnavailable as error:
            raise SourceUnavailable(str(error)) from None
        self._check_session()

    def with_options(self, options: Mapping[str, Any]) -> InProcess:
        """The same recognizer, started already, with other options for its sessions. It must be closed only once.

        Raises:
            SourceUnavailable: no session can have these options.
        """
        other = InProcess(self._recognizer, options, self._decode_s)
        other._check_options()
        other._check_session()
        return other

    def _check_options(self) -> None:
        """Raise `SourceUnavailable` if no session can have the options."""
        known = {field.name for field in dataclasses.fields(SessionOptions)}
        if unknown := sorted(self._options.keys() - known):
            raise SourceUnavailable(
                f"no session has the option {unknown[0]}; these are to be had: {', '.join(sorted(known))}"
            )
        try:
            self._session_options(None)
        except OptionError as error:
            raise SourceUnavailable(str(error)) from None
        except TypeError as error:
            raise SourceUnavailable(f"an option's value is of the wrong kind: {error}") from None

    def _check_session(self) -> None:
        """Raise `SourceUnavailable` if the recognizer, started already, can't do what the options ask."""
        options, can = self._session_options(None), self._recognizer.capabilities
        try:
            Session("check", options, can, make_detector, make_turn_detector=make_turn_detector)
        except OptionError as error:
            raise SourceUnavailable(str(error)) from None

    async def offline(self, audio: Audio, language: str | None) -> str:
        """Decoded in one piece where the model takes it whole, else cut at pauses as by `streaming-asr transcribe`."""
        if len(audio) / SAMPLE_RATE > self._recognizer.capabilities.max_audio_s:
            return await self._offline_in_pieces(audio, language)
        number = next(_numbers)
        job = DecodeJob(number, Kind.FINAL, f"file {number}", audio, language=language)
        try:
            return (await self._recognizer.decode(job)).text.strip()
        except DecodeFailed as error:
            raise NoTranscript(str(error)) from None
        finally:
            self._recognizer.release(job.utterance)

    async def stream(self, audio: Audio, language: str | None, on_progress: OnProgress) -> Transcript:
        options, can = self._session_options(language), self._recognizer.capabilities
        session = Session(f"clip {next(_numbers)}", options, can, make_detector, make_turn_detector=make_turn_detector)
        return await _Simulation(self._recognizer, session, self._decode_s).run(audio, on_progress)

    def memory_bytes(self) -> int:
        return int(psutil.Process().memory_info().rss)

    async def close(self) -> None:
        await self._recognizer.close()

    def _session_options(self, language: str | None) -> SessionOptions:
        options = SessionOptions(encoding=Encoding.F32LE, language=language)
        return options.changed(**self._options)

    async def _offline_in_pieces(self, audio: Audio, language: str | None) -> str:
        options = SessionOptions(language=language, endpoint_ms=RECORDED_ENDPOINT_MS)
        transcript = Transcript()
        async for event in stream_file(_Host(self._recognizer), _pieces(audio), options):
            if isinstance(event, Final):
                transcript.show_final(event.utterance, event.text, end_s=0, at_s=0)
        return transcript.finals


async def _pieces(audio: Audio) -> AsyncIterator[Audio]:
    for start in range(0, len(audio), SAMPLE_RATE):
        yield audio[start : start + SAMPLE_RATE]


class _Simulation:
    """One session at real time, on paper: the clock is the audio's, and decodes end when it says so."""

    def __init__(self, recognizer: Recognizer, session: Session, decode_s: float | None) -> None:
        self._recognizer = recognizer
        self._session = session
        self._decode_s = decode_s
        self._now = 0.0
        self._running: list[tuple[float, int, DecodeJob, Hypothesis | DecodeFailed | None]] = []
        """(when it ends, number, job, outcome where it is known already); a heap."""
        self._judging: deque[tuple[float, TurnQuestion]] = deque()
        """(when it is answered, question about a pause), in order."""
        self._transcript = Transcript()

    async def run(self, audio: Audio, on_progress: OnProgress) -> Transcript:
        audio = np.concatenate([audio, np.zeros(int(TRAILING_S * SAMPLE_RATE), np.float32)])
        size = int(CHUNK_S * SAMPLE_RATE)
        try:
            for start in range(0, len(audio), size):
                piece = audio[start : start + size]
                await self._finish_until((start + len(piece)) / SAMPLE_RATE)
                await self._take(self._session.receive(piece.tobytes(), self._now))
                on_progress(self._now)
                await asyncio.sleep(0)
            await self._take(self._session.stop(self._now))
            while not self._session.done:
                await self._finish_until(self._next())
        finally:
            self._session.abandon()
            self._release()
        return self._transcript

    async def _finish_until(self, moment: float) -> None:
        """End the decodes that are over by then, and answer the questions about pauses."""
        while (at := self._next()) <= moment:
            if self._judging and self._judging[0][0] == at:
                _, question = self._judging.popleft()
                self._now = max(self._now, at)
                await self._take(self._session.judged(question, question.answer(), self._now))
                continue
            ends, _, job, outcome = heapq.heappop(self._running)
            self._now = max(self._now, ends)
            if outcome is None:
                outcome = await self._decode(job)
            if isinstance(outcome, RecognizerDown):
                # A session would try again until the engine is back, which on this clock is at once.
                raise NoTranscript(str(outcome))
            if isinstance(outcome, Hypothesis):
                await self._take(self._session.complete(job.id, outcome, self._now))
            else:
                await self._take(self._session.fail(job.id, outcome, self._now))
        self._now = max(self._now, moment)

    def _next(self) -> float:
        """When the next decode ends or question is answered; infinite if there is none."""
        return min(*(waiting[0][0] if waiting else math.inf for waiting in (self._running, self._judging)))

    async def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Partial):
                text = event.stable + event.tentative
                self._transcript.show_partial(event.utterance, text, speculative=event.speculative)
            elif isinstance(event, SpeechEnded):
                if event.reason.by_pause:
                    self._transcript.show_pause_end(event.utterance, at_s=self._now)
            elif isinstance(event, Final):
                self._transcript.show_final(event.utterance, event.text, end_s=event.end_ms / 1000, at_s=self._now)
        if superseded := set(self._session.take_superseded()):
            self._running = [entry for entry in self._running if entry[1] not in superseded]
            heapq.heapify(self._running)
        self._release()
        self._judging.extend((self._now + _JUDGE_S, question) for question in self._session.take_questions())
        while len(self._running) < _SLOTS and (demand := self._session.demand()) is not None:
            if demand.when_idle and self._running:
                return
            job = demand.take(next(_numbers), self._now)
            assert job is not None
            await self._begin(job)

    async def _begin(self, job: DecodeJob) -> None:
        if self._decode_s is not None:
            # Decoded when it is due: what is superseded before costs nothing.
            heapq.heappush(self._running, (self._now + self._decode_s, job.id, job, None))
            return
        began = time.perf_counter()
        outcome = await self._decode(job)
        heapq.heappush(self._running, (self._now + time.perf_counter() - began, job.id, job, outcome))

    async def _decode(self, job: DecodeJob) -> Hypothesis | DecodeFailed:
        try:
            return await self._recognizer.decode(job)
        except DecodeFailed as error:
            return error

    def _release(self) -> None:
        for name in self._session.take_released():
            self._recognizer.release(name)


class _Host:
    """Runs the one session of a file on a recognizer."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._can = recognizer.capabilities
        self._runner = Runner(recognizer, Scheduler(self._can.concurrency))
        self.update = self._runner.update
        self.remove = self._runner.remove

    def open(self, options: SessionOptions, listener: Listener, broke: Broke, *, recorded: bool) -> Session:
        session = Session(
            f"file {next(_numbers)}",
            options,
            self._can,
            make_detector,
            make_turn_detector=make_turn_detector,
            recorded=recorded,
        )
        self._runner.add(session, listener, broke)
        return session
