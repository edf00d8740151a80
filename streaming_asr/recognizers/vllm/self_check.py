"""Whether a device computes what the use of encoder windows rests on. Checked at the start, on the device itself.

`EncoderCheck` becomes a part of each of vLLM's workers; what it computes is in `windows_apart`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from streaming_asr.recognizers.vllm.models.base import Completion

ENCODER_TOLERANCE = 0.05
"""Largest relative difference of an encoder's outputs: rounding in 16 bits stays well below it, and a window that sees
its neighbour is far beyond."""
LOGPROB_TOLERANCE = {"float32": 0.01}
"""Largest difference of a token's log-probability, by the engine's type."""
LOGPROB_TOLERANCE_16_BITS = 0.5
LIMIT_S = 60.0
"""Time for all of it."""

Embed = Callable[[Any, Sequence[int]], Sequence[Any]]
"""Encodes a spectrogram ``[bins, frames]`` that consists of items of the given numbers of frames; returns the output of
each item, ``[positions, width]``."""


def windows_apart(embed: Embed, bins: int, window: int) -> tuple[float, float]:
    """How far the encoder's outputs for two windows are from those of each window alone.

    Args:
        window: frames.

    Returns:
        If both are encoded in one call, and if they are one item: the largest relative difference (Euclidean norm) of a
        window's output. Infinity where an output is not a number.
    """
    import torch

    random = torch.Generator().manual_seed(0)
    features = torch.randn((bins, 2 * window), generator=random).clamp(-1.5, 1.5)
    alone = [embed(features[:, n * window : (n + 1) * window].contiguous(), [window])[0] for n in range(2)]
    together = embed(features, [window, window])
    whole = embed(features, [2 * window])[0].split([len(one) for one in alone])
    return _apart(together, alone), _apart(whole, alone)


def _apart(outputs: Sequence[Any], expected: Sequence[Any]) -> float:
    apart = 0.0
    for one, other in zip(outputs, expected, strict=True):
        one, other = one.double().cpu(), other.double().cpu()
        difference = float((one - other).norm() / other.norm())
        apart = max(apart, difference if math.isfinite(difference) else math.inf)
    return apart


class EncoderCheck:
    """Part of vLLM's workers."""

    def streaming_asr_windows_apart(self, bins: int, window: int) -> tuple[float, float]:
        """See `windows_apart`, of this worker's model."""
        import torch

        runner: Any = self.model_runner  # type: ignore[attr-defined]
        model = runner.get_model()

        def embed(features: Any, frames: Sequence[int]) -> Sequence[Any]:
            outputs: Sequence[Any] = model.embed_multimodal(
                input_audio_features=features.to(runner.device),
                audio_feature_lengths=torch.tensor(frames),
                feature_attention_mask=[torch.ones(n, dtype=torch.long) for n in frames],
            )
            return outputs

        with torch.inference_mode():
            return windows_apart(embed, bins, window)


WORKER_EXTENSION = f"{__name__}.{EncoderCheck.__name__}"
"""vLLM's option ``worker_extension_cls``."""


def completions_apart(one: Completion, other: Completion) -> float:
    """How far two greedy decodes of the same audio are apart, up to where their tokens part: the largest difference of
    the log-probability of what each chose. Where two tokens are equally probable, either may be chosen.
    """
    apart = 0.0
    for first, second, p, q in zip(one.tokens, other.tokens, one.logprobs, other.logprobs, strict=False):
        apart = max(apart, abs(p - q) if math.isfinite(p - q) else math.inf)
        if first != second:
            break
    return apart
