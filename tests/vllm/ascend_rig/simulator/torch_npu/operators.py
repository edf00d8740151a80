"""The operators that Qwen3-ASR uses, computed on the CPU as their documentation defines them.

Where a call asks for something that they were not written for, they raise instead of guessing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.nn import functional

LOG = "TORCH_NPU_SIMULATOR_LOG"
"""Environment variable with the path of a file. Each call of the encoder's attention appends a line of JSON to it: the
process, and the lengths of the sequences that it attended within."""

FULL, CAUSAL = 0, 3
"""Sparse modes of the fused attention: everything, or the lower right triangle."""


def npu_rms_norm(
    hidden: torch.Tensor, weight: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what is normalized, and the reciprocal of the root of the mean square."""
    scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + epsilon)
    return (hidden.float() * scale).to(hidden.dtype) * weight, scale


def npu_add_rms_norm(
    hidden: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns what `npu_rms_norm` does of the sum, and the sum."""
    total = hidden + residual
    return *npu_rms_norm(total, weight, epsilon), total


def npu_swiglu(gate_and_up: torch.Tensor, dim: int = -1) -> torch.Tensor:
    gate, up = gate_and_up.chunk(2, dim)
    return functional.silu(gate) * up


def _npu_reshape_and_cache(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_indices: torch.Tensor,
) -> None:
    """Write keys and values, shape ``[positions, heads, width]``, into the slots of a paged cache."""
    written = slot_indices >= 0
    for new, cache in ((key, key_cache), (value, value_cache)):
        cache.flatten(0, 1)[slot_indices[written].long()] = new[: len(slot_indices)][written].to(cache.dtype)


def npu_fused_infer_attention_score(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    num_heads: int,
    num_key_value_heads: int,
    scale: float,
    input_layout: str,
    sparse_mode: int,
    actual_seq_lengths: Sequence[int],
    actual_seq_lengths_kv: Sequence[int],
    block_table: torch.Tensor | None = None,
    block_size: int = 0,
    atten_mask: torch.Tensor | None = None,
    pre_tokens: int = 0,
    next_tokens: int = 0,
) -> tuple[torch.Tensor, None]:
    """Attention of sequences that lie one after the other in `query`, shape ``[positions, heads, width]``.

    Args:
        actual_seq_lengths: where each sequence ends in `query`.
        actual_seq_lengths_kv: where it ends in `key` and `value`; with a block table, its length in the cache.
        block_table: the blocks of each sequence, if `key` and `value` are paged caches.
    """
    if input_layout != "TND" or sparse_mode not in (FULL, CAUSAL):
        raise NotImplementedError(f"layout {input_layout}, sparse mode {sparse_mode}")
    # The mask of a causal call is a template that says the same as the mode.
    if sparse_mode == FULL and (atten_mask is not None or block_table is not None):
        raise NotImplementedError("attention to everything, with a mask or a paged cache")
    width = query.shape[-1]
    ends = [int(end) for end in actual_seq_lengths]
    if block_table is None:
        if sparse_mode == FULL:
            _log(ends)
        keys_and_values = _contiguous(key, value, actual_seq_lengths_kv)
    else:
        pages = (-1, block_size, num_key_value_heads, width)
        keys_and_values = _paged(key.view(pages), value.view(pages), block_table, block_size, actual_seq_lengths_kv)
    output = torch.zeros_like(query)
    for start, end, (keys, values) in zip([0, *ends], ends, keys_and_values, strict=False):
        if start < end:
            attended = functional.scaled_dot_product_attention(
                query[start:end].transpose(0, 1).float(),
                keys.transpose(0, 1).float(),
                values.transpose(0, 1).float(),
                attn_mask=_causal(end - start, len(keys)) if sparse_mode == CAUSAL else None,
                scale=scale,
                enable_gqa=num_heads != num_key_value_heads,
            )
            output[start:end] = attended.transpose(0, 1).to(query.dtype)
    return output, None


def _contiguous(
    key: torch.Tensor, value: torch.Tensor, ends: Sequence[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start, end in zip([0, *ends], ends, strict=False):
        yield key[int(start) : int(end)], value[int(start) : int(end)]


def _paged(
    key: torch.Tensor, value: torch.Tensor, block_table: torch.Tensor, block_size: int, lengths: Sequence[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for blocks, length in zip(block_table, lengths, strict=False):
        used = blocks[: -(-int(length) // block_size)].long()
        yield key[used].flatten(0, 1)[: int(length)], value[used].flatten(0, 1)[: int(length)]


def _causal(queries: int, keys: int) -> torch.Tensor:
    """Which keys each query sees: the last query all of them."""
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


def _log(ends: Sequence[int]) -> None:
    if path := os.environ.get(LOG):
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        with open(path, "a", encoding="ascii") as log:
            log.write(f"{json.dumps([os.getpid(), lengths])}\n")


def _split_qkv_rmsnorm_mrope(
    qkv: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    cos_sin: torch.Tensor,
    num_q_heads: int,
    num_kv_heads: int,
    head_size: int,
    eps: float,
    mrope_section: list[int],
    is_interleaved: bool,
    rope_dim: int | None = None,
    q_bias: torch.Tensor | None = None,
    k_bias: torch.Tensor | None = None,
    has_gate: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """vllm-ascend's Triton kernel before each attention of a Qwen3 with M-RoPE: queries and keys are normalized by head
    and rotated.

    Args:
        cos_sin: cosines, then sines, of the three axes, shape ``[3, positions, head_size]``; of speech they are equal.
    """
    if rope_dim not in (None, head_size) or has_gate or q_bias is not None or k_bias is not None:
        raise NotImplementedError("a part of the head, a gate or a bias")
    positions = len(qkv)
    queries, keys, values = qkv.split([head_size * heads for heads in (num_q_heads, num_kv_heads, num_kv_heads)], -1)
    cosines, sines = _axes(cos_sin, mrope_section, is_interleaved).float().chunk(2, -1)

    def rotate(projected: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        heads = projected.view(positions, -1, head_size).float()
        heads = heads * torch.rsqrt(heads.square().mean(-1, keepdim=True) + eps) * weight.float()
        first, second = heads.chunk(2, -1)
        rotated = (first * cosines - second * sines, second * cosines + first * sines)
        return torch.cat(rotated, -1).flatten(1).to(qkv.dtype)

    return rotate(queries, q_weight), rotate(keys, k_weight), values.contiguous(), qkv.new_empty(positions, 0)


def _axes(cos_sin: torch.Tensor, sections: list[int], interleaved: bool) -> torch.Tensor:
    """The cosines and sines of the axis that each dimension rotates by, shape ``[positions, 1, head_size]``."""
    _, positions, width = cos_sin.shape
    dimensions = torch.arange(width // 2)
    if interleaved:
        # Every third dimension is that of an axis, until its section is used up.
        axis = dimensions % 3
        axis = torch.where(dimensions <= 3 * torch.tensor(sections)[axis], axis, 0)
    else:
        axis = torch.bucketize(dimensions, torch.tensor(sections).cumsum(0), right=True)
    chosen = cos_sin.view(3, positions, 2, width // 2).gather(0, axis.expand(1, positions, 2, -1))
    return chosen.view(positions, 1, width)


class SlotMapping:
    """vLLM's Triton kernel that finds the slot of each position in the paged cache; called as a Triton kernel is."""

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def compute(
            positions_now: int,
            most_positions: int,
            starts: torch.Tensor,
            positions: torch.Tensor,
            block_table: torch.Tensor,
            row_length: int,
            block_size: int,
            slots: torch.Tensor,
            *,
            PAD_ID: int,
            TOTAL_CP_WORLD_SIZE: int,
            **_: int,
        ) -> None:
            if TOTAL_CP_WORLD_SIZE != 1:
                raise NotImplementedError("context parallelism")
            requests = grid[0] - 1
            lengths = starts[1 : requests + 1] - starts[:requests]
            request = torch.arange(requests).repeat_interleave(lengths)
            now = positions[: len(request)]
            blocks = block_table[request, now // block_size].long()
            slots[: len(request)] = (blocks * block_size + now % block_size).to(slots.dtype)
            slots[positions_now:most_positions] = PAD_ID

        return compute


compute_slot_mapping = SlotMapping()

_OPERATORS = torch.library.Library("vllm", "FRAGMENT")
_OPERATORS.define(
    "triton_split_qkv_rmsnorm_mrope(Tensor qkv, Tensor q_weight, Tensor k_weight, Tensor cos_sin, int num_q_heads, "
    "int num_kv_heads, int head_size, float eps, int[] mrope_section, bool is_interleaved, int? rope_dim=None, "
    "Tensor? q_bias=None, Tensor? k_bias=None, bool has_gate=False) -> (Tensor, Tensor, Tensor, Tensor)"
)
_OPERATORS.impl("triton_split_qkv_rmsnorm_mrope", _split_qkv_rmsnorm_mrope, "CPU")
