"""What each stage of the core costs, timed in this process on the same audio; no sockets, time is on paper."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.null_recognizer import NullRecognizer, null_hypothesis
from benchmarks.front_end.material import Material
from streaming_asr.core.audio import AudioDecoder
from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.scheduler import Limits, Scheduler
from streaming_asr.core.session import Session
from streaming_asr.core.voice import Detection, VoiceDetector
from streaming_asr.protocols import base
from streaming_asr.protocols.base import Handshake, Send
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.voice.detectors import make_detector
from streaming_asr.voice.silero import SileroQuery, network


@dataclass
class Work:
    """What a stretch of audio took: CPU seconds by stage, and counts of work. All sessions together."""

    audio_s: float = 0.0
    detector: float = 0.0
    """The voice detectors, but for Silero's network."""
    network: float = 0.0
    core: float = 0.0
    """Decoder, resampler, detector and session."""
    schedule: float = 0.0
    """Choosing jobs, making them, and taking their results."""
    protocol: float = 0.0
    """Wire messages to commands, events to wire messages."""
    frames: int = 0
    """That the detectors decided on."""
    asked: int = 0
    """Frames that Silero was shown."""
    jobs: int = 0
    messages: int = 0
    """That the clients would be sent."""
    held_s: float = 0.0
    """Audio that the sessions kept at the end."""

    @property
    def total(self) -> float:
        return self.core + self.network + self.schedule + self.protocol


@dataclass(frozen=True, slots=True)
class Stages:
    """CPU ms for a second of audio."""

    together: int
    """Sessions whose questions to Silero were answered together."""
    decode: float
    resample: float
    gate: float
    """Voice detection, but for Silero's network."""
    network: float
    session: float
    """The tape, the segmenter, utterances, transcripts."""
    schedule: float
    protocol: float
    speech_share: float
    """Share of the time that was inside utterances."""

    @property
    def total(self) -> float:
        detection = self.gate + self.network
        return self.decode + self.resample + detection + self.session + self.schedule + self.protocol


@dataclass
class _TimedDetector:
    """A detector, and what it took."""

    inner: VoiceDetector
    cpu_s: float = 0.0
    frames: int = 0
    frame_samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.frame_samples = self.inner.frame_samples

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        self.frames += len(frames)
        detection = self.inner.detect(frames)
        began = time.thread_time()
        try:
            query = next(detection)
            while True:
                self.cpu_s += time.thread_time() - began
                answer = yield query
                began = time.thread_time()
                query = detection.send(answer)
        except StopIteration as end:
            self.cpu_s += time.thread_time() - began
            return end.value  # type: ignore[no-any-return]

    def reset(self) -> None:
        self.inner.reset()


class _Table:
    """Sessions side by side, that the null recognizer answers at once."""

    def __init__(self, material: Material, options: SessionOptions, together: int) -> None:
        capabilities = NullRecognizer().capabilities
        self._chunks = material.chunks
        self._scheduler = Scheduler(capabilities.concurrency, Limits(max_sessions=together))
        self.detectors: list[_TimedDetector] = []
        self.sessions = [Session(f"s{number}", options, capabilities, self._detector) for number in range(together)]
        for session in self.sessions:
            self._scheduler.add(session, 0.0)
        self._translator = NativeTranslator(Handshake("/v1/stream"), options)
        self._apart = len(material.chunks) // together
        """Chunks of the material between one session's place in it and the next's."""

    def _detector(self, options: SessionOptions) -> VoiceDetector:
        self.detectors.append(_TimedDetector(make_detector(options)))
        return self.detectors[-1]

    def receive(self, position: int, now: float, work: Work) -> None:
        """Give every session its next chunk, and do all that follows."""
        began = time.thread_time()
        audio = []
        for number in range(len(self.sessions)):
            place = (position + number * self._apart) % len(self._chunks)
            (command,) = self._translator.received(self._chunks[place])
            assert isinstance(command, base.Audio)
            audio.append(command.data)
        received = time.thread_time()
        hearings = [session.receiving(data, now) for session, data in zip(self.sessions, audio, strict=True)]
        results, asking = _answered_together(hearings, work)
        listened = time.thread_time()
        for session, events in zip(self.sessions, results, strict=True):
            events += self._decoded(session, now, work)
        scheduled = time.thread_time()
        for events in results:
            work.messages += sum(isinstance(command, Send) for command in self._translator.on_events(events))
        work.protocol += received - began + time.thread_time() - scheduled
        work.core += listened - received - asking
        work.network += asking
        work.schedule += scheduled - listened

    def _decoded(self, session: Session, now: float, work: Work) -> list[Event]:
        """Run the jobs that are wanted: what the runner does, without its tasks."""
        events: list[Event] = []
        session.take_superseded()
        self._scheduler.update(session, now)
        while chosen := self._scheduler.next_job(now):
            work.jobs += 1
            self._scheduler.finished(chosen.job.id, now)
            events += session.complete(chosen.job.id, null_hypothesis(chosen.job), now)
            session.take_superseded()
            session.take_released()
            self._scheduler.update(session, now)
        return events


def _answered_together(asking: Sequence[Detection[list[Event]]], work: Work) -> tuple[list[list[Event]], float]:
    """What each returns, and the CPU seconds that Silero's network took."""
    results: list[list[Event]] = [[] for _ in asking]
    answers: list[list[float] | None] = [None] * len(asking)
    going = list(range(len(asking)))
    took = 0.0
    while going:
        asks: list[tuple[int, SileroQuery]] = []
        for number in going:
            answer = answers[number]
            try:
                query = asking[number].send(answer)
            except StopIteration as end:
                results[number] = end.value
                continue
            assert isinstance(query, SileroQuery)
            asks.append((number, query))
        going = [number for number, _ in asks]
        if not asks:
            break
        began = time.thread_time()
        found = network().answer([ask for _, ask in asks])
        took += time.thread_time() - began
        work.asked += sum(len(ask.frames) for _, ask in asks)
        for number, answer in zip(going, found, strict=True):
            answers[number] = answer
    return results, took


def drive(material: Material, options: SessionOptions, stretch_s: float, together: int = 1) -> Iterator[Work]:
    """Stream the material, over and over, through sessions side by side, each at another place in it.

    Yields:
        What each `stretch_s` of it took, without end.
    """
    table = _Table(material, options, together)
    chunk_s = material.chunk_ms / 1000
    stretch = round(stretch_s / chunk_s)
    position = 0
    while True:
        work = Work(audio_s=stretch * chunk_s * together)
        for timed in table.detectors:
            timed.cpu_s, timed.frames = 0.0, 0
        for _ in range(stretch):
            position += 1
            table.receive(position, position * chunk_s, work)
        work.detector = sum(timed.cpu_s for timed in table.detectors)
        work.frames = sum(timed.frames for timed in table.detectors)
        work.held_s = sum(session.held_s for session in table.sessions)
        yield work


def measure_stages(material: Material, options: SessionOptions, together: int = 1, repeats: int = 5) -> Stages:
    """Median of `repeats` passes in which the sessions together process the whole material."""
    options = options.changed(sample_rate=material.sample_rate)
    passes = [next(drive(material, options, material.seconds / together, together)) for _ in range(repeats)]
    both = statistics.median(_decoding(material, options) for _ in range(repeats)) * 1000 / material.seconds
    # The same bytes, taken for 16 kHz, are decoded alike and not resampled.
    plain = options.changed(sample_rate=SAMPLE_RATE)
    alone = statistics.median(_decoding(material, plain) for _ in range(repeats)) * 1000 / material.seconds

    def median_ms(of: Callable[[Work], float]) -> float:
        return statistics.median(of(work) * 1000 / work.audio_s for work in passes)

    gate = median_ms(lambda work: work.detector)

    return Stages(
        together=together,
        decode=alone,
        resample=both - alone if material.sample_rate != SAMPLE_RATE else 0.0,
        gate=gate,
        network=median_ms(lambda work: work.network),
        session=median_ms(lambda work: work.core) - gate - both,
        schedule=median_ms(lambda work: work.schedule),
        protocol=median_ms(lambda work: work.protocol),
        speech_share=speech_share(material, options),
    )


def speech_share(material: Material, options: SessionOptions) -> float:
    """Share of the material during which an utterance is open."""
    session = Session("share", options, NullRecognizer().capabilities, make_detector)
    spoken = 0
    for chunk in material.chunks:
        session.receive(chunk, 0.0)
        spoken += session.speaking
    return spoken / len(material.chunks)


def _decoding(material: Material, options: SessionOptions) -> float:
    decoder = AudioDecoder(options)
    began = time.thread_time()
    for chunk in material.chunks:
        decoder.decode(chunk)
    return time.thread_time() - began


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of a long session."""

    number: int
    cpu_ms: float
    """For a second of audio, all stages."""
    frames: int
    asked: int
    jobs: int
    messages: int
    held_s: float


def measure_length(material: Material, options: SessionOptions, minutes: int) -> Iterator[Minute]:
    """Each minute of one session of that length."""
    options = options.changed(sample_rate=material.sample_rate)
    works = drive(material, options, 60.0)
    for number in range(1, minutes + 1):
        work = next(works)
        cpu = work.total * 1000 / work.audio_s
        yield Minute(number, cpu, work.frames, work.asked, work.jobs, work.messages, work.held_s)
