"""Voice detectors: frames of 16 kHz audio -> voiced or not.

Each detector is a deterministic function of the sample stream, however the stream is split into calls. Which one
is the default, and why, is in docs/vad.md; how to add one, in docs/extending/voice_detector.md.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.voice import Detection, DetectorFactory, VoiceDetector
from streaming_asr.voice.adaptive import AdaptiveDetector, ThoroughDetector
from streaming_asr.voice.silero import CONTEXT, FRAME, Memory, SileroQuery
from streaming_asr.voice.threshold import Threshold

WEBRTC_FRAME = 480
"""Samples of one of WebRTC's decisions, 30 ms: the longest it takes, the cheapest per second."""
_WARM_UP_FRAMES = 16
"""Frames from before the gate opened that Silero is given, half a second; a shorter gap is given whole."""
_SURE_FRAMES = 8
"""Frames between two queries to Silero while it is sure: a quarter second, which the pre-roll covers."""
_SURE_GIVEN = 4
"""Frames that it is then given; its memory bridges the others."""


class WebRtcDetector:
    """WebRTC's Gaussian mixture: it costs little and misses little speech, but takes most sounds for speech.

    Args:
        mode: 0 to 3; higher calls fewer frames voiced.

    Raises:
        ValueError: there is no such mode.
    """

    frame_samples = WEBRTC_FRAME

    def __init__(self, mode: int = 3) -> None:
        if mode not in (0, 1, 2, 3):
            raise ValueError(f"WebRTC's mode is {mode}; it must be 0, 1, 2 or 3")
        self._mode = mode
        self.reset()

    def reset(self) -> None:
        self._vad = webrtcvad.Vad(self._mode)

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        yield from ()
        return np.array(self.passed(frames), bool)

    def passed(self, frames: Audio) -> list[bool]:
        """Whether each frame is voiced; needs no network."""
        scaled = frames * np.float32(32767)
        # A resampler may overshoot; unclipped, the loudest samples would change their sign.
        np.minimum(scaled, 32767, out=scaled)
        np.maximum(scaled, -32767, out=scaled)
        data = scaled.astype("<i2").tobytes()
        size = 2 * frames.shape[1]
        is_speech = self._vad.is_speech
        return [is_speech(data[start : start + size], SAMPLE_RATE) for start in range(0, len(data), size)]


class SileroDetector:
    """Silero's recurrent network, which distinguishes speech from music and noise.

    Args:
        threshold: probability of speech from which a frame is voiced, 0 to 1.

    Raises:
        ValueError: the threshold is out of range.
    """

    frame_samples = FRAME

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = Threshold(threshold)
        self.reset()

    def reset(self) -> None:
        self._memory = Memory()
        self._before: Audio = np.zeros(CONTEXT, np.float32)
        self._voiced = False

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        decisions = np.empty(len(frames), bool)
        if len(frames):
            for index, probability in enumerate((yield SileroQuery(self._before, frames, self._memory))):
                decisions[index] = self._voiced = self._threshold.reached(probability, self._voiced)
            self._before = frames[-1, -CONTEXT:].copy()
        return decisions


class CascadeDetector:
    """WebRTC as a gate before Silero, which is queried only about frames that pass, and rarely while it is sure.

    A quiet room, the larger part of most streams, then needs no network, and music and noise are still not voiced.
    After a short gap Silero is given all frames that it missed; while it is sure, only the latest ones.

    Args:
        threshold: Silero's, 0 to 1.
        mode: WebRTC's, 0 to 3.

    Raises:
        ValueError: the threshold or the mode is out of range.
    """

    frame_samples = FRAME

    def __init__(self, threshold: float = 0.5, mode: int = 3) -> None:
        self._gate = WebRtcDetector(mode)
        self._threshold = Threshold(threshold)
        self.reset()

    def reset(self) -> None:
        self._gate.reset()
        self._memory = Memory()
        nothing = [np.zeros(FRAME, np.float32)] * (_WARM_UP_FRAMES + 1)
        self._latest: deque[Audio] = deque(nothing, maxlen=len(nothing))
        """Frames that Silero may still be given, and the one before them."""
        self._unseen = 0
        """Frames since the last query."""
        self._sure = self._voiced = False

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        decisions = np.zeros(len(frames), bool)
        gate = self._gate.passed(frames[:, :WEBRTC_FRAME])
        if gate and not any(gate):
            self._latest.extend(frames)
            self._unseen += len(frames)
            self._sure = False
            return decisions
        for index, passed in enumerate(gate):
            self._latest.append(frames[index])
            self._unseen += 1
            if not passed:
                self._sure = False
                continue
            if not self._sure or self._unseen >= _SURE_FRAMES:
                yield from self._query()
            decisions[index] = self._voiced
        return decisions

    def _query(self) -> Detection[None]:
        """Query Silero about the latest frame."""
        if self._unseen > _WARM_UP_FRAMES:
            self._memory = Memory()
            self._voiced = False
        given = min(self._unseen, _SURE_GIVEN if self._sure else _WARM_UP_FRAMES)
        before, *frames = list(self._latest)[-given - 1 :]
        probability = (yield SileroQuery(before[-CONTEXT:], np.array(frames), self._memory))[-1]
        self._voiced = self._threshold.reached(probability, self._voiced)
        self._sure = self._threshold.sure(probability)
        self._unseen = 0


DETECTORS: dict[str, DetectorFactory] = {
    "adaptive": lambda options: AdaptiveDetector(options.vad_threshold),
    "thorough": lambda options: ThoroughDetector(options.vad_threshold),
    "cascade": lambda options: CascadeDetector(options.vad_threshold),
    "silero": lambda options: SileroDetector(options.vad_threshold),
    "webrtc": lambda options: WebRtcDetector(),
}
"""The detectors by name, the values of the option `vad`. A new detector is a line here."""

_UNGATED = {"adaptive": "thorough", "cascade": "silero"}
"""Detectors with a gate, which saves CPU -> the same without one."""


def ungated(name: str) -> str:
    """The detector for what is to be missed less than CPU: recordings, and audio that its client commits.

    Args:
        name: of the detector for live audio.
    """
    return _UNGATED.get(name, name)


def make_detector(options: SessionOptions) -> VoiceDetector:
    """A fresh detector, as the options ask.

    Raises:
        OptionError: there is no detector of that name.
    """
    factory = DETECTORS.get(options.vad)
    if factory is None:
        raise OptionError("vad", f"{options.vad!r} is not one of {', '.join(DETECTORS)}")
    return factory(options)
