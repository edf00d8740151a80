"""Turns a CTranslate2 Whisper, such as the tiny.en that comes as a Python package, into a Transformers checkpoint.

A ``model.bin`` of version 6 is: the version, the kind of model, its revision, then each variable's name, shape, type
and bytes, then aliases. CTranslate2 fuses the projections of an attention: query, key and value of self-attention,
key and value of cross-attention. Whisper's keys have no bias; CTranslate2 stores zeros for it.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors.torch import save_file

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

_NAMES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_FUSED = {
    "self_attention/linear_0": ("self_attn", "qkv"),
    "attention/linear_1": ("encoder_attn", "kv"),
}
_PARTS = {"gamma": "weight", "beta": "bias", "encodings": "weight"}


def convert(source: Path, target: Path) -> Path:
    """Write a checkpoint in float32.

    Args:
        source: folder with ``model.bin`` and ``tokenizer.json``.
    """
    target.mkdir(parents=True, exist_ok=True)
    variables = dict(_read(source / "model.bin"))
    weights: dict[str, torch.Tensor] = {}
    for name, value in variables.items():
        for renamed, part in _renamed(name, value):
            weights[renamed] = torch.from_numpy(part.astype(np.float32))
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    numbers = {side: _number(variables, side) for side in ("encoder", "decoder")}
    end = _end_token(source)
    _write(target / "config.json", _config(weights, numbers, end))
    _write(target / "generation_config.json", {"eos_token_id": end, "decoder_start_token_id": end + 1})
    bins = weights["model.encoder.conv1.weight"].shape[1]
    _write(
        target / "preprocessor_config.json",
        {
            "chunk_length": 30,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": bins,
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "sampling_rate": 16000,
        },
    )
    shutil.copy(source / "tokenizer.json", target)
    _write(
        target / "tokenizer_config.json",
        {
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "model_max_length": 448,
            "pad_token": "<|endoftext|>",
            "processor_class": "WhisperProcessor",
            "tokenizer_class": "WhisperTokenizer",
            "unk_token": "<|endoftext|>",
        },
    )
    return target


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with path.open("rb") as file:
        (version,) = struct.unpack("<I", file.read(4))
        kind = _string(file)
        assert (version, kind) == (6, "WhisperSpec"), (version, kind)
        _, count = struct.unpack("<II", file.read(8))
        for _ in range(count):
            name = _string(file)
            rank = file.read(1)[0]
            shape = struct.unpack(f"<{rank}I", file.read(4 * rank))
            kind_of_number = _TYPES[file.read(1)[0]]
            (size,) = struct.unpack("<I", file.read(4))
            yield name, np.frombuffer(file.read(size), kind_of_number).reshape(shape)


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", file.read(2))
    return file.read(length).rstrip(b"\0").decode()


def _renamed(name: str, value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if value.ndim == 0 or value.dtype != np.float16:
        return
    path, _, last = name.rpartition("/")
    last = _PARTS.get(last, last)
    if match := re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)", path):
        side, number, part = match.groups()
        layer = f"model.{side}.layers.{number}"
        if part not in _FUSED:
            yield f"{layer}.{_NAMES[part]}.{last}", value
            return
        attention, letters = _FUSED[part]
        for letter, piece in zip(letters, np.split(value, len(letters)), strict=True):
            if (letter, last) != ("k", "bias"):
                yield f"{layer}.{attention}.{letter}_proj.{last}", piece
        return
    side, _, part = path.partition("/")
    part = {"embeddings": "embed_tokens", "position_encodings": "embed_positions"}.get(part, part)
    yield f"model.{side}.{part}.{last}", value


def _number(variables: dict[str, np.ndarray], side: str) -> dict[str, int]:
    layers = {match[1] for name in variables if (match := re.match(rf"{side}/layer_(\d+)/", name))}
    return {"heads": int(variables[f"{side}/num_heads"]), "layers": len(layers)}


def _config(weights: dict[str, torch.Tensor], numbers: dict[str, dict[str, int]], end: int) -> dict[str, object]:
    vocabulary, width = weights["model.decoder.embed_tokens.weight"].shape
    config: dict[str, object] = {
        "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"],
        "d_model": width,
        "dtype": "float32",
        "is_encoder_decoder": True,
        "max_source_positions": weights["model.encoder.embed_positions.weight"].shape[0],
        "max_target_positions": weights["model.decoder.embed_positions.weight"].shape[0],
        "model_type": "whisper",
        "num_mel_bins": weights["model.encoder.conv1.weight"].shape[1],
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "vocab_size": vocabulary,
    }
    for side, number in numbers.items():
        config[f"{side}_attention_heads"] = number["heads"]
        config[f"{side}_layers"] = number["layers"]
        config[f"{side}_ffn_dim"] = weights[f"model.{side}.layers.0.fc1.weight"].shape[0]
    return config | {
        "bos_token_id": end,
        "decoder_start_token_id": end + 1,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _end_token(source: Path) -> int:
    added = json.loads((source / "tokenizer.json").read_text())["added_tokens"]
    return next(token["id"] for token in added if token["content"] == "<|endoftext|>")


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1))
