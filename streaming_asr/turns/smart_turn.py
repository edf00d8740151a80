"""Smart Turn v3.2: from the last seconds of a speaker's audio, how likely it is that the turn is over.

A network of 8 million parameters, made from Whisper's encoder and trained on talk in 23 languages (Daily, 2025; BSD-2).
It hears intonation, pace and the words' ends, not their meaning. On talk it is clear; readers of books end phrases as
others end turns. Its weights are in the package; `weights/README.md` says where they are from.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from streaming_asr.core.mel import Features, floor_of, log_mel, normalize
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.turn import Pause

WEIGHTS = Path(__file__).parent / "weights" / "smart-turn-v3.2-cpu.onnx"
SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
"""Of the weights."""

WINDOW = 8 * SAMPLE_RATE
"""Samples that the network takes: the last ones. Where there are fewer, silence comes before them."""
BINS = 80
_LEAST_VARIANCE = 1e-7


class SmartTurn:
    """One object, and one copy of the weights, serves all sessions.

    Raises:
        OptionError: onnxruntime is not installed.
    """

    asks_at_ms = (200, 400)

    def __init__(self, options: SessionOptions) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            command = "pip install 'streaming-asr[turns]'"
            raise OptionError("endpointing", f"{options.endpointing!r} needs onnxruntime; install it: {command}")

    def probability(self, pause: Pause) -> float:
        (result,) = _network().run(None, {"input_features": features(pause.audio)[None]})
        return float(result.item())


def features(audio: Audio) -> Features:
    """What the network takes: the log-mel spectrogram, shape ``[80, 800]``, of audio of zero mean and unit variance.

    Args:
        audio: shape ``[n]``; what is earlier than the last `WINDOW` samples is left out.
    """
    window = np.zeros(WINDOW, np.float32)
    last = audio[-WINDOW:]
    window[WINDOW - len(last) :] = last
    window = (window - window.mean()) / np.sqrt(window.var() + np.float32(_LEAST_VARIANCE))
    log_power = log_mel(window, BINS)
    return normalize(log_power, floor_of(log_power))


@cache
def _network() -> Any:
    """The network, loaded. Its calls block, run on the caller's thread alone, and may overlap."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(WEIGHTS), options, providers=["CPUExecutionProvider"])
