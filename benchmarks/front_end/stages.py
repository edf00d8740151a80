"""What each stage of the core costs, timed in this process on the same audio; no sockets, time is on paper."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.front_end.material import Material
from benchmarks.null_recognizer import NullRecognizer, null_hypothesis
from streaming_asr.audio import AudioDecoder
from streaming_asr.events import Event
from streaming_asr.protocols.base import Audio as Heard
from streaming_asr.protocols.base import Request, Send
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.recognizers.base import SAMPLE_RATE, Audio
from streaming_asr.scheduler import Scheduler
from streaming_asr.session import Session, detector_for
from streaming_asr.settings import SessionOptions
from streaming_asr.vad import VoiceDetector


@dataclass
class Work:
    """What a stretch of one session's audio took: CPU seconds by stage, and counts of work."""

    audio_s: float = 0.0
    detector: float = 0.0
    core: float = 0.0
    """Decoder, resampler, detector and session together."""
    schedule: float = 0.0
    """Choosing jobs, making them, and taking their results."""
    protocol: float = 0.0
    """Wire messages to commands, events to wire messages."""
    frames: int = 0
    """That the detector decided on."""
    jobs: int = 0
    messages: int = 0
    """That the client would be sent."""
    held_s: float = 0.0
    """Audio that the session kept at the end."""

    @property
    def total(self) -> float:
        return self.core + self.schedule + self.protocol


@dataclass(frozen=True, slots=True)
class Stages:
    """CPU ms for a second of audio."""

    decode: float
    resample: float
    vad: float
    session: float
    """The tape, the segmenter, utterances, transcripts."""
    schedule: float
    protocol: float
    speech_share: float
    """Share of the time that was inside utterances."""

    @property
    def total(self) -> float:
        return self.decode + self.resample + self.vad + self.session + self.schedule + self.protocol


@dataclass
class _TimedDetector:
    """A detector, and what it took."""

    inner: VoiceDetector
    cpu_s: float = 0.0
    frames: int = 0
    frame_samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.frame_samples = self.inner.frame_samples

    def voiced(self, frames: Audio) -> NDArray[np.bool_]:
        began = time.thread_time()
        decisions = self.inner.voiced(frames)
        self.cpu_s += time.thread_time() - began
        self.frames += len(frames)
        return decisions

    def reset(self) -> None:
        self.inner.reset()


def drive(material: Material, options: SessionOptions, stretch_s: float) -> Iterator[Work]:
    """Stream the material, over and over, through one session that the null recognizer answers at once.

    Yields:
        What each `stretch_s` of it took, without end.
    """
    detectors: list[_TimedDetector] = []

    def detector(given: SessionOptions) -> VoiceDetector:
        detectors.append(_TimedDetector(detector_for(given)))
        return detectors[-1]

    capabilities = NullRecognizer().capabilities
    session = Session("measured", options, capabilities, detector)
    scheduler = Scheduler(capabilities.concurrency)
    scheduler.add(session, 0.0)
    translator = NativeTranslator(Request("/v1/stream"), options)
    chunk_s = material.chunk_ms / 1000
    stretch = round(stretch_s / chunk_s)
    position = 0
    while True:
        work = Work(audio_s=stretch * chunk_s)
        for timed in detectors:
            timed.cpu_s, timed.frames = 0.0, 0
        for _ in range(stretch):
            chunk = material.chunks[position % len(material.chunks)]
            position += 1
            now = position * chunk_s
            began = time.thread_time()
            (command,) = translator.received(chunk)
            received = time.thread_time()
            assert isinstance(command, Heard)
            events = session.receive(command.data, now)
            heard = time.thread_time()
            events += _decoded(session, scheduler, now, work)
            scheduled = time.thread_time()
            work.messages += sum(isinstance(told, Send) for told in translator.happened(events))
            work.protocol += received - began + time.thread_time() - scheduled
            work.core += heard - received
            work.schedule += scheduled - heard
        work.detector = sum(timed.cpu_s for timed in detectors)
        work.frames = sum(timed.frames for timed in detectors)
        work.held_s = session.held_s
        yield work


def _decoded(session: Session, scheduler: Scheduler, now: float, work: Work) -> list[Event]:
    """Run the jobs that are wanted, at once: what the runner does, without its tasks."""
    events: list[Event] = []
    session.take_superseded()
    scheduler.update(session)
    while chosen := scheduler.next_job(now):
        work.jobs += 1
        scheduler.finished(chosen.job.id, now)
        events += session.complete(chosen.job.id, null_hypothesis(chosen.job), now)
        session.take_superseded()
        session.take_released()
        scheduler.update(session)
    return events


def measure_stages(material: Material, options: SessionOptions, repeats: int = 5) -> Stages:
    """Median of `repeats` passes over the whole material."""
    options = options.changed(sample_rate=material.sample_rate)
    passes = [next(drive(material, options, material.seconds)) for _ in range(repeats)]
    both = statistics.median(_decoding(material, options) for _ in range(repeats))
    # The same bytes, taken for 16 kHz, are decoded alike and not resampled.
    alone = statistics.median(_decoding(material, options.changed(sample_rate=SAMPLE_RATE)) for _ in range(repeats))
    of_second = 1000 / material.seconds
    vad = statistics.median(work.detector for work in passes) * of_second
    core = statistics.median(work.core for work in passes) * of_second
    return Stages(
        decode=alone * of_second,
        resample=(both - alone) * of_second if material.sample_rate != SAMPLE_RATE else 0.0,
        vad=vad,
        session=core - vad - both * of_second,
        schedule=statistics.median(work.schedule for work in passes) * of_second,
        protocol=statistics.median(work.protocol for work in passes) * of_second,
        speech_share=speech_share(material, options),
    )


def speech_share(material: Material, options: SessionOptions) -> float:
    """Share of the material during which an utterance is open."""
    session = Session("share", options, NullRecognizer().capabilities)
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
        yield Minute(number, cpu, work.frames, work.jobs, work.messages, work.held_s)
