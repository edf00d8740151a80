"""When a voice agent built with Pipecat finalizes: at the stops of Silero, 0.2 s after each end of speech.

Pipecat's voice detection with its defaults: a frame of 32 ms is speech from a probability of 0.7, six such frames in a
row begin it, and six others end it. Its gate by loudness, which only matters for very quiet clips, is left out. Its
benchmark (pipecat-ai/stt-benchmark) counts TTFS from 0.2 s before the last stop of a clip.
"""

from __future__ import annotations

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.voice.silero import CONTEXT, FRAME, Memory, SileroQuery

STOP_S = 0.2
"""Silence that a stop stands for."""
_PROBABILITY = 0.7
_FRAMES = round(STOP_S * SAMPLE_RATE / FRAME)
"""In a row that begin speech, and that end it."""


def stops(audio: Audio) -> tuple[float, ...]:
    """Where the stops are.

    Args:
        audio: 16 kHz, shape ``[n]``, with the silence that follows the speech.

    Returns:
        Seconds of the audio, ascending: the end of the frame that makes the stop.
    """
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return ()
    query = SileroQuery(np.zeros(CONTEXT, np.float32), frames, Memory())
    (probabilities,) = query.network.answer([query])
    found = []
    speaking, others = False, 0  # `others`: frames in a row that are not as `speaking` says.
    for number, probability in enumerate(probabilities, 1):
        others = others + 1 if (probability >= _PROBABILITY) is not speaking else 0
        if others == _FRAMES:
            speaking, others = not speaking, 0
            if not speaking:
                found.append(number * FRAME / SAMPLE_RATE)
    return tuple(found)
