"""An utterance's audio as the items that a windowed encoder can be given one by one.

The encoder attends within windows of a fixed length, so a window's output depends on no other. Once a window is over
it is frozen: the same item, under the same name, goes into every later request, and the engine finds its output and
its keys and values in its caches. Only the tail behind the frozen windows is new.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.mel import HOP, Features, floor_of, normalize
from streaming_asr.core.recognizer import Audio
from streaming_asr.recognizers.vllm.models.mel import FRAMES_PER_S, LogMel

LEAST_TAIL = FRAMES_PER_S
"""Frames that must follow a window before it is frozen. An item under a second alone is not convolved as it would
be together with the rest, because the encoder pads its chunks of a second only to the longest of them."""


@dataclass(frozen=True, slots=True)
class AudioItem:
    """A part of an utterance."""

    features: Features
    """Shape ``[bins, frames]``."""
    name: str
    """Differs wherever the features differ, and between utterances."""

    @property
    def frames(self) -> int:
        return int(self.features.shape[1])


@dataclass(frozen=True, slots=True)
class _Window:
    item: AudioItem
    floor: np.float32
    """The floor of the spectrogram when it was frozen."""


class UtteranceWindows:
    """The items of one utterance. May be called from several threads.

    Args:
        utterance: its name.
        window: frames of an encoder window; 0 makes one item of the whole utterance.
    """

    def __init__(self, utterance: str, bins: int, window: int) -> None:
        self._utterance = utterance
        self._mel = LogMel(bins)
        self._window = window
        self._frozen: list[_Window] = []
        self._lock = threading.Lock()

    def items(self, audio: Audio, *, exact: bool) -> list[AudioItem]:
        """Split the utterance so far.

        Args:
            audio: from its first sample, shape ``[n]``.
            exact: make the very features that the whole utterance would have. Otherwise frozen windows keep theirs,
                though a louder sound since then has raised the floor below which the spectrogram is cut off.
        """
        with self._lock:
            log_power = self._mel(audio)
            floor = floor_of(log_power)
            frames = log_power.shape[1]
            windows = max(0, frames - LEAST_TAIL) // self._window if self._window else 0
            for n in range(windows):
                if n < len(self._frozen) and not (exact and self._frozen[n].floor != floor):
                    continue
                part = log_power[:, n * self._window : (n + 1) * self._window]
                self._frozen[n : n + 1] = [_Window(self._item(normalize(part, floor)), floor)]
            tail = self._item(normalize(log_power[:, windows * self._window :], floor))
            return [*(window.item for window in self._frozen[:windows]), tail]

    def _item(self, features: Features) -> AudioItem:
        return AudioItem(features, name_of(self._utterance, features))


def split_samples(audio: Audio, window: int) -> list[Audio]:
    """The same split of the samples themselves, for engines that make the spectrogram.

    Args:
        window: frames of an encoder window; 0 for one item.
    """
    windows = max(0, len(audio) // HOP - LEAST_TAIL) // window if window else 0
    return np.split(audio, [n * window * HOP for n in range(1, windows + 1)])


def name_of(utterance: str, content: NDArray[np.float32]) -> str:
    """A name that differs wherever the content differs, and between utterances."""
    salt = hashlib.blake2b(utterance.encode(), digest_size=16).digest()
    return hashlib.blake2b(content.tobytes(), digest_size=16, salt=salt).hexdigest()
