"""Rebuilds the trained checkpoint as a folder that vLLM loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from streaming_asr.recognizers.vllm.models.qwen3_prompt import AUDIO
from tests.vllm.tiny_qwen3_asr import TEMPLATE, Size, add_tokens, write_settings
from tests.vllm.trained.network import Network

HERE = Path(__file__).parent
WEIGHTS = HERE / "weights.safetensors"
SIZE = Size(
    encoder_width=128,
    encoder_layers=2,
    encoder_heads=4,
    convolution=16,
    width=128,
    layers=4,
    heads=4,
    key_heads=2,
    head_dim=32,
)


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Write all of the checkpoint but its weights.

    Returns:
        The ids of its tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(HERE / name, folder / name)
    vocabulary = add_tokens(folder, json.loads((HERE / "vocab.json").read_text()))
    write_settings(folder, SIZE, vocabulary)
    return vocabulary


def write_checkpoint(folder: Path) -> Path:
    """Write the checkpoint with the trained weights, in float32."""
    write_tokenizer(folder)
    weights = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def load_network(weights: Path, vocabulary: dict[str, int]) -> Network:
    """The same model in plain torch.

    Args:
        vocabulary: as `write_tokenizer` returns it.
    """
    network = Network(SIZE, len(vocabulary), vocabulary[AUDIO], vocabulary["<|im_end|>"])
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    network.eval()
    return network


def load_tokenizer(folder: Path) -> tuple[Any, str]:
    """Transformers' tokenizer of a checkpoint, and its chat template."""
    return AutoTokenizer.from_pretrained(folder), TEMPLATE
