"""Voice detectors: frames of 16 kHz audio -> voiced or not.

Each detector is a deterministic function of the sample stream, however the stream is split into calls. Which one
is the default, and why, is in docs/vad.md.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from streaming_asr.recognizers.base import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SILERO_FRAME = 512
"""Samples of one of Silero's decisions, 32 ms."""
_SILERO_CONTEXT = 64
"""Samples of the frame before that Silero sees again."""
_SILERO_HYSTERESIS = 0.15
"""Once voiced, a frame stays voiced down to this much below the threshold."""
_SILERO_WEIGHTS = Path(__file__).parent / "data" / "silero_vad_16k_sequence.onnx"
WEBRTC_FRAME = 480
"""Samples of one of WebRTC's decisions, 30 ms: the longest it takes, the cheapest per second."""
_WARM_UP_FRAMES = 16
"""Frames before the gate opened that Silero is shown, half a second. After a shorter gap its memory has no hole."""


class DetectorUnavailable(Exception):
    """The detector can't run here. The message says what is missing, and the command that mends it."""


class VoiceDetector(Protocol):
    """Hears one channel; keeps what it must remember of the stream."""

    @property
    def frame_samples(self) -> int:
        """Samples of one decision."""

    def voiced(self, frames: Audio) -> NDArray[np.bool_]:
        """Decide on the next frames.

        Args:
            frames: shape ``[k, frame_samples]``, finite.

        Returns:
            Shape ``[k]``.
        """

    def reset(self) -> None:
        """Forget the stream."""


class WebRtcDetector:
    """The GMM detector of WebRTC: hardly misses speech, at hardly any cost, but takes most sounds for speech.

    Args:
        mode: 0 to 3; higher calls fewer frames voiced.
    """

    frame_samples = WEBRTC_FRAME

    def __init__(self, mode: int = 3) -> None:
        if mode not in (0, 1, 2, 3):
            raise ValueError(f"WebRTC's mode is {mode}; it must be 0, 1, 2 or 3")
        self._mode = mode
        self.reset()

    def reset(self) -> None:
        self._vad = webrtcvad.Vad(self._mode)

    def voiced(self, frames: Audio) -> NDArray[np.bool_]:
        pcm = (frames * 32767).astype("<i2")
        return np.fromiter((self._vad.is_speech(frame.tobytes(), SAMPLE_RATE) for frame in pcm), bool, len(pcm))


class SileroDetector:
    """Silero's recurrent network, by onnxruntime: tells speech from music and noise.

    Args:
        threshold: probability of speech from which a frame is voiced, 0 to 1.

    Raises:
        DetectorUnavailable: onnxruntime is not installed.
    """

    frame_samples = SILERO_FRAME

    def __init__(self, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"Silero's threshold is {threshold}; it must be between 0 and 1")
        self._on, self._off = threshold, max(0.01, threshold - _SILERO_HYSTERESIS)
        self._network = _silero()
        self.reset()

    def reset(self) -> None:
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._before = np.zeros(_SILERO_CONTEXT, np.float32)
        self._voiced = False

    def voiced(self, frames: Audio) -> NDArray[np.bool_]:
        decisions = np.empty(len(frames), bool)
        for index, probability in enumerate(self.probabilities(frames).tolist()):
            self._voiced = probability >= (self._off if self._voiced else self._on)
            decisions[index] = self._voiced
        return decisions

    def probabilities(self, frames: Audio) -> NDArray[np.float32]:
        """Probability of speech in each of the next frames, shape ``[k]``."""
        if not len(frames):
            return np.empty(0, np.float32)
        overlapping = np.empty((len(frames), _SILERO_CONTEXT + SILERO_FRAME), np.float32)
        overlapping[:, _SILERO_CONTEXT:] = frames
        overlapping[0, :_SILERO_CONTEXT] = self._before
        overlapping[1:, :_SILERO_CONTEXT] = frames[:-1, -_SILERO_CONTEXT:]
        self._before = frames[-1, -_SILERO_CONTEXT:].copy()
        found: tuple[NDArray[np.float32], ...] = tuple(
            self._network.run(None, {"input": overlapping, "h": self._h, "c": self._c})
        )
        probabilities, self._h, self._c = found
        return probabilities


class CascadeDetector:
    """WebRTC as the gate, Silero asked only about what passes it.

    Silence, the larger part of most streams, then costs no network; music and noise still do not become speech.

    Raises:
        DetectorUnavailable: onnxruntime is not installed.
    """

    frame_samples = SILERO_FRAME

    def __init__(self, threshold: float = 0.5, mode: int = 3) -> None:
        self._gate = WebRtcDetector(mode)
        self._silero = SileroDetector(threshold)
        self.reset()

    def reset(self) -> None:
        self._gate.reset()
        self._silero.reset()
        self._unseen = np.empty((0, SILERO_FRAME), np.float32)
        """The latest frames that Silero was not asked about, one more than it is shown if there were more."""

    def voiced(self, frames: Audio) -> NDArray[np.bool_]:
        passed = self._gate.voiced(frames[:, :WEBRTC_FRAME])
        decisions = np.zeros(len(frames), bool)
        asked = 0
        for start, end in _runs(passed):
            self._catch_up(np.concatenate((self._unseen, frames[asked:start])))
            decisions[start:end] = self._silero.voiced(frames[start:end])
            self._unseen = self._unseen[:0]
            asked = end
        self._unseen = np.concatenate((self._unseen, frames[asked:]))[-_WARM_UP_FRAMES - 1 :]
        return decisions

    def _catch_up(self, unseen: Audio) -> None:
        if len(unseen) > _WARM_UP_FRAMES:
            self._silero.reset()
        self._silero.voiced(unseen[-_WARM_UP_FRAMES:])


def make_detector(name: str, *, threshold: float = 0.5) -> VoiceDetector:
    """A fresh detector: `cascade`, `silero` or `webrtc`; the last has no threshold.

    Raises:
        DetectorUnavailable: something it needs is not installed.
        ValueError: there is no detector of that name, or the threshold is out of range.
    """
    if name == "cascade":
        return CascadeDetector(threshold)
    if name == "silero":
        return SileroDetector(threshold)
    if name == "webrtc":
        return WebRtcDetector()
    raise ValueError(f"there is no voice detector {name!r}; there are cascade, silero and webrtc")


@functools.cache
def _silero() -> InferenceSession:
    """The network, shared by all detectors of the process; it keeps no state of its own."""
    try:
        import onnxruntime
    except ImportError:
        raise DetectorUnavailable(
            "Silero needs onnxruntime: pip install 'streaming-asr[silero]' (or choose --vad webrtc)"
        ) from None
    options = onnxruntime.SessionOptions()
    # One frame is too little work to share out, and threads that wait for it would spin.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(_SILERO_WEIGHTS, options, providers=["CPUExecutionProvider"])


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """``[start, end)`` of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.view(np.int8), [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
