"""CAM++: an embedding of a voice, of 192 numbers, from about a second of its speech.

A network of 7 million parameters (Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking", 2023; Apache-2.0), trained by 3D-Speaker on Mandarin and English speech of 200,000 speakers. Its
weights are in the package; `weights/README.md` says where they are from.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from streaming_asr.core.options import OptionError
from streaming_asr.core.recognizer import Audio
from streaming_asr.core.speaker_clusters import Embeddings
from streaming_asr.speakers.fbank import fbank

WEIGHTS = Path(__file__).parent / "weights" / "campplus_zh_en.onnx"
SHA256 = "1bbf921a6494c136859ba6c0d94136e43cf68a3e8fb713de7cf7dbabf5a1018e"
"""Of the weights."""
SIZE = 192
"""Numbers of an embedding."""
_TINY = 1e-9


class CamPlus:
    """One object, and one copy of the weights, serves all sessions. Its calls block, and may overlap.

    Raises:
        OptionError: onnxruntime is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            command = "pip install 'streaming-asr[speakers]'"
            raise OptionError("speakers", f"speaker labels need onnxruntime; install it: {command}")

    def load(self) -> None:
        """Load the network now, which takes a moment; else the first call of `embed` does."""
        _network()

    def embed(self, windows: Sequence[Audio]) -> Embeddings:
        """The embeddings of stretches of speech, of unit length, shape ``[len(windows), SIZE]``.

        Args:
            windows: each of shape ``[n]``, 0.2 s to 2 s; those of equal length are computed at once.
        """
        result = np.empty((len(windows), SIZE), np.float32)
        for length in {len(window) for window in windows}:
            places = [place for place, window in enumerate(windows) if len(window) == length]
            features = np.stack([fbank(windows[place]) for place in places])
            features -= features.mean(axis=1, keepdims=True)
            (result[places],) = _network().run(None, {"features": features})
        unit: Embeddings = result / np.maximum(np.linalg.norm(result, axis=1, keepdims=True), _TINY)
        return unit


@cache
def _network() -> Any:
    """The network, loaded. Its calls block, run on the caller's thread alone, and may overlap."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(WEIGHTS), options, providers=["CPUExecutionProvider"])
