"""Runs the audio encoder of a checkpoint under vllm-ascend's platform, with its attention, over one spectrogram whole
and in windows. Prints as JSON what came out.

    python -m tests.vllm.ascend_rig.encoder CHECKPOINT
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open

FRAMES = (2450, 900, 1637)
"""Of the spectrograms."""
PREFIX = "thinker.audio_tower."


def main(checkpoint: str) -> None:
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.model_executor.models.qwen3_omni_moe_thinker import Qwen3OmniMoeAudioEncoder
    from vllm_ascend.ascend_config import init_ascend_config
    from vllm_ascend.utils import adapt_patch, register_ascend_customop

    from streaming_asr.recognizers.vllm.models.qwen3_asr import MODEL_TYPE
    from streaming_asr.recognizers.vllm.models.qwen3_audio import audio_tokens
    from streaming_asr.recognizers.vllm.models.windows import LEAST_TAIL
    from streaming_asr.recognizers.vllm.options import parse_engine_options

    options = ["--dtype=float32", "--enforce-eager"]
    config = parse_engine_options(checkpoint, options, MODEL_TYPE.options_here()).create_engine_config()
    # In the order in which its worker does it.
    adapt_patch()
    register_ascend_customop(config)
    init_ascend_config(config)
    audio = config.model_config.hf_config.thinker_config.audio_config
    with tempfile.TemporaryDirectory() as folder, set_current_vllm_config(config), torch.inference_mode():
        init_distributed_environment(1, 0, f"file://{folder}/init", 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
        encoder = Qwen3OmniMoeAudioEncoder(audio)
        with safe_open(Path(checkpoint) / "model.safetensors", "pt") as weights:
            names = [name for name in weights.keys() if name.startswith(PREFIX)]  # noqa: SIM118
            encoder.load_weights((name.removeprefix(PREFIX), weights.get_tensor(name)) for name in names)

        def encode(spectrogram: torch.Tensor, lengths: list[int]) -> torch.Tensor:
            after = torch.tensor([audio_tokens(length) for length in lengths])
            encoded: torch.Tensor = encoder(spectrogram, feature_lens=torch.tensor(lengths), aftercnn_lens=after)
            assert len(encoded) == after.sum()
            return encoded

        random = torch.Generator().manual_seed(0)
        for frames in FRAMES:
            spectrogram = torch.randn(audio.num_mel_bins, frames, generator=random)
            whole = encode(spectrogram, [frames])

            def apart(encoded: torch.Tensor, whole: torch.Tensor = whole) -> float:
                return float((encoded - whole).abs().max())

            parts = cut(frames, audio.n_window_infer, LEAST_TAIL)
            elsewhere = cut(frames, audio.n_window_infer // 2, LEAST_TAIL)
            alone = [encode(part, [part.shape[1]]) for part in spectrogram.split(parts, dim=1)]
            result = {
                "attention": type(encoder.layers[0].self_attn.attn).__name__,
                "parts": parts,
                "together": apart(encode(spectrogram, parts)),
                "alone": apart(torch.cat(alone)),
                "elsewhere": apart(encode(spectrogram, elsewhere)),
            }
            print("ENCODED", json.dumps(result))


def cut(frames: int, window: int, least_tail: int) -> list[int]:
    """The lengths of windows and of what is left, as `UtteranceWindows` has them."""
    windows = [window] * max(0, (frames - least_tail) // window)
    return [*windows, frames - sum(windows)]


if __name__ == "__main__":
    main(sys.argv[1])
