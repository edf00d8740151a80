"""What the server makes of a recording's speakers: its voice detector, utterances, windows and labels, in step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.speakers.scoring import Label
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.segmenter import Mark, Segmenter
from streaming_asr.core.speaker_labels import SLOT, SpeakerLabels
from streaming_asr.core.speaker_windows import plan_windows, stretches_of
from streaming_asr.core.voice import run_inline
from streaming_asr.core.voiced_frames import VoicedFrames
from streaming_asr.speakers.campplus import SIZE, CamPlus
from streaming_asr.voice.detectors import make_detector

CHUNK_S = 0.96


@dataclass(slots=True)
class Labelled:
    labels: list[Label]
    """Of voiced speech."""
    voiced_s: float = 0.0
    cpu_s: float = 0.0
    """Of comparing voices: the network, and all that is done with its embeddings."""


def label(audio: Audio, options: SessionOptions, network: CamPlus) -> Labelled:
    """The labels of a recording, shape ``[n]``, as its finals would have them."""
    labels, labelled = SpeakerLabels(), Labelled([])
    for start, end, voiced in utterances(audio, options):
        began = time.process_time()
        windows = plan_windows(voiced, end - start, over=True)
        cut = [audio[start + window.start : start + window.end] for window in windows]
        embeddings = [network.embed(cut[first : first + 4]) for first in range(0, len(cut), 4)]
        stacked = np.concatenate(embeddings) if embeddings else np.empty((0, SIZE), np.float32)
        speakers = labels.settle(windows, stacked, end - start)
        labelled.cpu_s += time.process_time() - began
        labelled.voiced_s += sum(until - since for since, until in voiced) / SAMPLE_RATE
        if speakers is None:
            continue
        for since, until in stretches_of(voiced):
            for first in range(since, until, SLOT):
                last = min(until, first + SLOT)
                span = (start + first) / SAMPLE_RATE, (start + last) / SAMPLE_RATE
                labelled.labels.append((speakers.of(first, last), *span))
    return labelled


def utterances(audio: Audio, options: SessionOptions) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Start and end of each utterance, samples, and where in it the voice detector found speech."""
    detector = make_detector(options)
    frame = detector.frame_samples
    segmenter, frames = Segmenter(frame, options), VoicedFrames(frame)
    chunk = round(CHUNK_S * SAMPLE_RATE) // frame
    start = 0
    for first in range(0, len(audio) // frame, chunk):
        some = audio[first * frame : (first + chunk) * frame]
        some = some[: len(some) // frame * frame].reshape(-1, frame)
        decisions = run_inline(detector.detect(some))
        frames.append(decisions, first * frame)
        boundaries = segmenter.push(decisions, np.einsum("ij,ij->i", some, some) / frame)
        if first + chunk >= len(audio) // frame:
            boundaries += segmenter.finalize(len(audio))
        for boundary in boundaries:
            if boundary.mark is Mark.ONSET:
                start = boundary.position
            elif boundary.mark in (Mark.END, Mark.CUT):
                yield start, boundary.position, frames.spans(start, boundary.position)
