"""Makes a small Qwen3-ForcedAligner checkpoint of the real architecture. Its times are noise, or chosen by a test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from tests.vllm.tiny_qwen3_asr import Size, make_config, make_tokenizer, make_weights, write, write_processor

STEP_MS = 80
CLASSES = 5000
TIMESTAMP = "<timestamp>"
MARK_VALUE = 2.0
"""What each timestamp token adds in a checkpoint whose times are chosen."""
SCALE = 30
"""Steps that one unit of value stands for."""
ONE, KEY, VALUE, MEAN, FILL = range(5)
"""Dimensions of the hidden state in such a checkpoint."""


def make_aligner(folder: Path, starts: Mapping[str, int] | None = None) -> Path:
    """Write a checkpoint.

    Args:
        starts: by word, in the order of the text: the step in which each starts, if they are spoken one after the
            other. Each must be a single token. None: the weights are random, and so are the times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_tokenizer(folder, ("<asr_text>", TIMESTAMP))
    size = Size(layers=2)
    config = make_config(size, vocabulary, window=800, chunk=100)
    thinker = config["thinker_config"]
    assert isinstance(thinker, dict)
    thinker.update(model_type="qwen3_forced_aligner", classify_num=CLASSES)
    config.update(timestamp_token_id=vocabulary[TIMESTAMP], timestamp_segment_time=STEP_MS)
    write(folder / "config.json", config)
    write_processor(folder)
    random = torch.Generator().manual_seed(0)
    weights = dict(make_weights(size, len(vocabulary), vocabulary["<|im_end|>"], random))
    weights["thinker.lm_head.weight"] = torch.randn((CLASSES, size.width), generator=random)
    if starts is not None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = [tokenizer.encode(word, add_special_tokens=False) for word in starts]
        assert all(len(one) == 1 for one in ids), ids
        values = word_values(list(starts.values()))
        keys = {one[0]: value for one, value in zip(ids, values, strict=True)} | {vocabulary[TIMESTAMP]: MARK_VALUE}
        _plant(weights, size, keys)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def word_values(starts: list[int]) -> list[float]:
    """What words must add for their starts to come out.

    A timestamp's time is the mean of the values of all words and timestamps up to it. The n-th word's first timestamp
    has n words and 2 n - 1 timestamps up to it.
    """
    sums = [start / SCALE * (3 * n - 1) - MARK_VALUE * (2 * n - 1) for n, start in enumerate(starts, 1)]
    return [after - before for before, after in zip([0.0, *sums], sums, strict=False)]


def ends(starts: list[int]) -> list[int]:
    """The step in which each word ends, in such a checkpoint."""
    sums = [start / SCALE * (3 * n - 1) + MARK_VALUE for n, start in enumerate(starts, 1)]
    return [round(SCALE * total / (3 * n)) for n, total in enumerate(sums, 1)]


def _plant(weights: dict[str, torch.Tensor], size: Size, keys: Mapping[int, float]) -> None:
    """Have the classes follow from the tokens: one head takes the mean of the values of all keys so far, by a dimension
    that rotary embedding hardly turns, and the classifier rounds it.
    """

    def state(key: bool, value: float) -> torch.Tensor:
        vector = torch.zeros(size.width)
        vector[ONE], vector[KEY], vector[VALUE] = 1.0, 1.0 if key else -1.0, value
        # Of the same length for all, so that normalization changes nothing.
        vector[FILL] = math.sqrt(size.width - 2 - value**2)
        return vector

    embeddings = weights["thinker.model.embed_tokens.weight"]
    for token in range(len(embeddings)):
        embeddings[token] = state(token in keys, keys.get(token, 0.0))
    weights["thinker.audio_tower.proj2.weight"].zero_()
    weights["thinker.audio_tower.proj2.bias"].copy_(state(False, 0.0))
    for n in range(size.layers):
        layer = f"thinker.model.layers.{n}"
        for part in ("self_attn.o_proj", "mlp.down_proj"):
            weights[f"{layer}.{part}.weight"].zero_()
        for part in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}.{part}.weight"].fill_(1.0)
        for part in ("q_norm", "k_norm"):
            weights[f"{layer}.self_attn.{part}.weight"].fill_(2.0)
    weights["thinker.model.norm.weight"].fill_(1.0)
    still = size.head_dim // 2 - 1
    attention = "thinker.model.layers.0.self_attn"
    for part, row, column in (("q_proj", still, ONE), ("k_proj", still, KEY), ("v_proj", 0, VALUE)):
        weights[f"{attention}.{part}.weight"].zero_()
        weights[f"{attention}.{part}.weight"][row, column] = 1.0
    weights[f"{attention}.o_proj.weight"][MEAN, 0] = 1.0
    # The largest of 2 c x - c^2 is the c next to x.
    steps = torch.arange(CLASSES, dtype=torch.float32)
    classifier = torch.zeros((CLASSES, size.width))
    classifier[:, MEAN], classifier[:, ONE] = 2 * SCALE * steps, -(steps**2)
    weights["thinker.lm_head.weight"] = classifier
