"""Checks, on the device, that audio in windows gives Qwen3-ASR what the whole audio gives it."""

from __future__ import annotations

import asyncio

import numpy as np

from streaming_asr.core.mel import HOP
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context
from streaming_asr.recognizers.vllm.models.base import AskWorkers, Completion, Request, Run, Verdict
from streaming_asr.recognizers.vllm.models.qwen3_audio import AudioInput, Form, Geometry, UtteranceAudio, prompt_of
from streaming_asr.recognizers.vllm.models.qwen3_prompt import Qwen3Prompt
from streaming_asr.recognizers.vllm.self_check import (
    ENCODER_TOLERANCE,
    LOGPROB_TOLERANCE,
    LOGPROB_TOLERANCE_16_BITS,
    EncoderCheck,
    completions_apart,
)

TOKENS = 8
"""Of each decode."""
TAIL_S = 2.5
"""Of the clip, behind its two windows."""


def known_clip(window: int) -> Audio:
    """Two encoder windows and a tail of something like voiced syllables, the same each time.

    Args:
        window: frames.
    """
    time = np.arange(2 * window * HOP + int(TAIL_S * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / SAMPLE_RATE
    voice = sum(np.sin(n * pitch) / n for n in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.3 * np.sin(2 * np.pi * 0.5 * time), 0, None)
    breath = np.random.default_rng(0).normal(0, 0.003, len(time))
    clip: Audio = (0.1 * voice * syllables + breath).astype(np.float32)
    return clip


async def check_windows(
    prompt: Qwen3Prompt, geometry: Geometry, form: Form, run: Run, ask_workers: AskWorkers, dtype: str
) -> Verdict:
    """Encode two windows together and alone, and decode a clip whole and in windows, these also out of the caches.

    Args:
        form: in windows.
        dtype: of the engine, such as ``bfloat16``.
    """
    try:
        answers = await ask_workers(EncoderCheck.streaming_asr_windows_apart.__name__, geometry.bins, geometry.window)
    except Exception as error:  # An engine of another kind may not have the workers' part.
        return Verdict(f"the encoder could not be asked: {error or type(error).__name__}", None)
    batch, neighbours = (max(each) for each in zip(*answers, strict=True))
    if max(batch, neighbours) > ENCODER_TOLERANCE:
        return Verdict(
            f"encoder windows differ from themselves alone by {batch:.2g} in one call and by {neighbours:.2g} in one "
            f"item, where {ENCODER_TOLERANCE} is allowed",
            False,
        )
    clip = known_clip(geometry.window)

    async def decode(audio: AudioInput) -> Completion:
        return await run(Request(prompt_of(prompt.ids(len(audio.frames), Context(), None), audio), TOKENS))

    def inputs() -> tuple[AudioInput, AudioInput]:
        windows = UtteranceAudio("self-check", geometry, form).input(clip, exact=True)
        return UtteranceAudio("self-check whole", geometry, Form.WHOLE).input(clip, exact=True), windows

    whole, windows = await asyncio.to_thread(inputs)
    expected = await decode(whole)
    # The second time out of the engine's caches.
    apart = max([completions_apart(await decode(windows), expected) for _ in range(2)])
    allowed = LOGPROB_TOLERANCE.get(dtype, LOGPROB_TOLERANCE_16_BITS)
    if form is not Form.FEATURES:
        # Each window has a spectrogram of its own, so they are not quite the same.
        allowed = LOGPROB_TOLERANCE_16_BITS
    if apart > allowed:
        return Verdict(
            f"a clip in encoder windows is decoded with log-probabilities that differ by {apart:.2g} from those of the "
            f"whole clip, where {allowed} is allowed",
            False,
        )
    detail = f"windows alone, together and in one item differ by {max(batch, neighbours):.1g} in the encoder"
    return Verdict(f"{detail} and by {apart:.1g} in log-probabilities", True)
