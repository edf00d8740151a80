"""Makes a small Qwen3-ASR checkpoint: the real architecture and time geometry, random weights, a small vocabulary.

What it says is noise, but noise that follows from every weight and every frame: two ways to decode the same audio
agree in it only if they agree in everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
TEXT_TAG = "<asr_text>"
TEMPLATE = (
    "{%- set seen = namespace(text='', audio=0) -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{%- set seen.text = seen.text + message.content -%}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'audio' -%}{%- set seen.audio = seen.audio + 1 -%}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
    "{{- '<|im_start|>system\\n' + seen.text + '<|im_end|>\\n<|im_start|>user\\n' -}}"
    "{%- for _ in range(seen.audio) -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
_CORPUS = [
    "language English Chinese Cantonese Arabic German French Spanish None system user assistant",
    "a man said to the universe sir I exist and the north wind and the sun were disputing which was the stronger",
]


@dataclass(frozen=True)
class Size:
    """Widths and depths. The time geometry is the released one whatever they are."""

    encoder_width: int = 64
    encoder_layers: int = 2
    encoder_heads: int = 4
    convolution: int = 16
    width: int = 64
    layers: int = 2
    heads: int = 4
    key_heads: int = 2
    head_dim: int = 32


RELEASED_ENCODER = Size(encoder_width=896, encoder_layers=18, encoder_heads=14, convolution=480)
"""The 0.6B's encoder before a small language model."""


def make_checkpoint(folder: Path, size: Size = Size(), *, seed: int = 0, window: int = 800, chunk: int = 100) -> Path:
    """Write a checkpoint.

    Args:
        window: frames that the encoder attends in.
        chunk: frames that it convolves at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_tokenizer(folder)
    write_settings(folder, size, vocabulary, window, chunk)
    random = torch.Generator().manual_seed(seed)
    weights = dict(make_weights(size, len(vocabulary), vocabulary["<|im_end|>"], random))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_settings(folder: Path, size: Size, vocabulary: dict[str, int], window: int = 800, chunk: int = 100) -> None:
    """Write what a checkpoint has besides its weights and its tokenizer; arguments as for `make_checkpoint`."""
    write(folder / "config.json", make_config(size, vocabulary, window, chunk))
    write_processor(folder)
    write(
        folder / "generation_config.json",
        {"eos_token_id": [vocabulary["<|endoftext|>"], vocabulary["<|im_end|>"]], "do_sample": False},
    )


def write_processor(folder: Path) -> None:
    """Write what Transformers' processor reads."""
    write(folder / "chat_template.json", {"chat_template": TEMPLATE})
    write(
        folder / "preprocessor_config.json",
        {
            "chunk_length": 30,
            "dither": 0.0,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": 128,
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "Qwen3ASRProcessor",
            "return_attention_mask": True,
        },
    )


def make_tokenizer(folder: Path, tags: Sequence[str] = (TEXT_TAG,)) -> dict[str, int]:
    """Write a tokenizer; returns its vocabulary."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(_CORPUS, vocab_size=400, min_frequency=1, show_progress=False)
    bpe.save_model(str(folder))
    return add_tokens(folder, bpe.get_vocab(), tags)


def add_tokens(folder: Path, pieces: dict[str, int], tags: Sequence[str] = (TEXT_TAG,)) -> dict[str, int]:
    """Add special tokens and tags to a tokenizer of the given pieces, numbered from 0; returns the whole vocabulary."""
    first = len(pieces)
    added = {
        token: {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL,
        }
        for token in (*SPECIAL, *tags)
    }
    audio = {
        f"audio{part}_token": f"<|audio_{name}|>" for part, name in (("", "pad"), ("_bos", "start"), ("_eos", "end"))
    }
    write(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {str(first + n): entry for n, entry in enumerate(added.values())},
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "extra_special_tokens": audio,
            "model_max_length": 131072,
            "pad_token": "<|endoftext|>",
            "processor_class": "Qwen3ASRProcessor",
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
            **audio,
        },
    )
    return pieces | {token: first + n for n, token in enumerate(added)}


def make_config(size: Size, vocabulary: dict[str, int], window: int, chunk: int) -> dict[str, object]:
    audio = {
        "activation_function": "gelu",
        "conv_chunksize": 500,
        "d_model": size.encoder_width,
        "downsample_hidden_size": size.convolution,
        "encoder_attention_heads": size.encoder_heads,
        "encoder_ffn_dim": 4 * size.encoder_width,
        "encoder_layers": size.encoder_layers,
        "max_source_positions": 1500,
        "model_type": "qwen3_asr_audio_encoder",
        "n_window": chunk // 2,
        "n_window_infer": window,
        "num_hidden_layers": size.encoder_layers,
        "num_mel_bins": 128,
        "output_dim": size.width,
        "scale_embedding": False,
    }
    text = {
        "attention_bias": False,
        "head_dim": size.head_dim,
        "hidden_act": "silu",
        "hidden_size": size.width,
        "intermediate_size": 3 * size.width,
        "max_position_embeddings": 65536,
        "model_type": "qwen3",
        "num_attention_heads": size.heads,
        "num_hidden_layers": size.layers,
        "num_key_value_heads": size.key_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "interleaved": True,
            "mrope_interleaved": True,
            "mrope_section": _sections(size.head_dim),
            "rope_type": "default",
            "type": "default",
        },
        "rope_theta": 1000000,
        "tie_word_embeddings": True,
        "vocab_size": len(vocabulary),
    }
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "thinker_config": {
            "architectures": ["Qwen3ASRForConditionalGeneration"],
            "audio_config": audio,
            "audio_end_token_id": vocabulary["<|audio_end|>"],
            "audio_start_token_id": vocabulary["<|audio_start|>"],
            "audio_token_id": vocabulary["<|audio_pad|>"],
            "dtype": "float32",
            "model_type": "qwen3_asr",
            "text_config": text,
        },
    }


def _sections(head_dim: int) -> list[int]:
    """How M-RoPE's three axes share the half of a head, in the released proportion of 24 : 20 : 20."""
    second = head_dim // 2 * 20 // 64
    return [head_dim // 2 - 2 * second, second, second]


def make_weights(size: Size, vocabulary: int, end: int, random: torch.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    def matrix(*shape: int, gain: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=random) * gain / math.sqrt(math.prod(shape[1:]))

    def vector(length: int, mean: float = 0.0) -> torch.Tensor:
        return mean + 0.1 * torch.randn(length, generator=random)

    tower, width = "thinker.audio_tower", size.encoder_width
    for n, channels in ((1, 1), (2, size.convolution), (3, size.convolution)):
        yield f"{tower}.conv2d{n}.weight", matrix(size.convolution, channels, 3, 3, gain=2.0)
        yield f"{tower}.conv2d{n}.bias", vector(size.convolution)
    yield f"{tower}.conv_out.weight", matrix(width, size.convolution * 16)
    for n in range(size.encoder_layers):
        layer = f"{tower}.layers.{n}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{layer}.self_attn.{part}.weight", matrix(width, width)
            yield f"{layer}.self_attn.{part}.bias", vector(width)
        for part, rows, columns in (("fc1", 4 * width, width), ("fc2", width, 4 * width)):
            yield f"{layer}.{part}.weight", matrix(rows, columns)
            yield f"{layer}.{part}.bias", vector(rows)
        for part in ("self_attn_layer_norm", "final_layer_norm"):
            yield f"{layer}.{part}.weight", vector(width, 1.0)
            yield f"{layer}.{part}.bias", vector(width)
    yield f"{tower}.ln_post.weight", vector(width, 1.0)
    yield f"{tower}.ln_post.bias", vector(width)
    for part, rows in (("proj1", width), ("proj2", size.width)):
        yield f"{tower}.{part}.weight", matrix(rows, width)
        yield f"{tower}.{part}.bias", vector(rows)

    embeddings = torch.randn((vocabulary, size.width), generator=random)
    # A longer row is said more often: without it, random weights rarely come to an end.
    embeddings[end] *= 1.5
    yield "thinker.model.embed_tokens.weight", embeddings
    for n in range(size.layers):
        layer = f"thinker.model.layers.{n}"
        for part, heads in (("q_proj", size.heads), ("k_proj", size.key_heads), ("v_proj", size.key_heads)):
            yield f"{layer}.self_attn.{part}.weight", matrix(heads * size.head_dim, size.width)
        yield f"{layer}.self_attn.o_proj.weight", matrix(size.width, size.heads * size.head_dim, gain=2.0)
        for part in ("q_norm", "k_norm"):
            yield f"{layer}.self_attn.{part}.weight", vector(size.head_dim, 2.0)
        for part, rows, columns in (
            ("gate_proj", 3 * size.width, size.width),
            ("up_proj", 3 * size.width, size.width),
            ("down_proj", size.width, 3 * size.width),
        ):
            yield f"{layer}.mlp.{part}.weight", matrix(rows, columns, gain=2.0)
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{part}.weight", vector(size.width, 1.0)
    yield "thinker.model.norm.weight", vector(size.width, 1.0)


def write(path: Path, content: object) -> None:
    """Write a file of JSON."""
    path.write_text(json.dumps(content, indent=1))
