"""Qwen3-ASR in plain torch, for training: the layers of vLLM's model, under the checkpoint's names.

It takes batches of whole utterances, each padded to the longest, and gives what vLLM gives for an item of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.vllm.tiny_qwen3_asr import Size

BINS = 128
CHUNK = 100
"""Frames that are convolved at a time."""
CHUNK_TOKENS = 13
WINDOW_TOKENS = 8 * CHUNK_TOKENS
"""Positions that attend to each other in the encoder."""
POSITIONS = 1500
ROPE_BASE = 1e6


def positions_of(frames: int) -> int:
    """Positions that the given number of frames become."""
    return CHUNK_TOKENS * (frames // CHUNK) + math.ceil(frames % CHUNK / 8)


class EncoderAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (_split(part(x), self.heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = EncoderAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        out: Tensor = x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))
        return out


class Encoder(nn.Module):
    """Log-mel frames to positions of the language model: 13 a second."""

    place: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        width, channels = size.encoder_width, size.convolution
        self.conv2d1 = nn.Conv2d(1, channels, 3, 2, padding=1)
        self.conv2d2 = nn.Conv2d(channels, channels, 3, 2, padding=1)
        self.conv2d3 = nn.Conv2d(channels, channels, 3, 2, padding=1)
        self.conv_out = nn.Linear(channels * BINS // 8, width, bias=False)
        self.layers = nn.ModuleList(EncoderLayer(width, size.encoder_heads) for _ in range(size.encoder_layers))
        self.ln_post = nn.LayerNorm(width)
        self.proj1, self.proj2 = nn.Linear(width, width), nn.Linear(width, size.width)
        step = math.log(10_000) / (width // 2 - 1)
        angles = torch.arange(CHUNK_TOKENS)[:, None] * torch.exp(-step * torch.arange(width // 2))
        self.register_buffer("place", torch.cat([angles.sin(), angles.cos()], dim=1), persistent=False)

    def forward(self, features: Tensor, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encode utterances.

        Args:
            features: shape ``[utterances, BINS, longest]``, longest a multiple of `CHUNK`, zero behind each end.
            frames: of each utterance.

        Returns:
            For the language model, shape ``[utterances, positions, width]``, and what the convolutions found, of the
            encoder's width. What is behind `positions_of` an utterance means nothing.
        """
        count, _, longest = features.shape
        chunks = features.reshape(count, BINS, longest // CHUNK, CHUNK).permute(0, 2, 1, 3).flatten(0, 1)
        x = chunks[:, None]
        for convolution in (self.conv2d1, self.conv2d2, self.conv2d3):
            x = functional.gelu(convolution(x))
        local = self.conv_out(x.permute(0, 3, 1, 2).flatten(2))
        x = (local + self.place).reshape(count, -1, local.shape[-1])
        window = torch.arange(x.shape[1]) // WINDOW_TOKENS
        there = torch.arange(x.shape[1]) < torch.tensor([positions_of(n) for n in frames])[:, None]
        # A position that means nothing attends to itself, since attending to nothing gives NaN.
        mask = (window[:, None] == window) & there[:, None, :] | torch.eye(x.shape[1], dtype=torch.bool)
        for layer in self.layers:
            x = layer(x, mask[:, None])
        x = self.ln_post(x)
        return self.proj2(functional.gelu(self.proj1(x))), local.reshape(count, -1, local.shape[-1])


class Attention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads, self.key_heads = size.heads, size.key_heads
        self.q_proj = nn.Linear(size.width, size.heads * size.head_dim, bias=False)
        self.k_proj = nn.Linear(size.width, size.key_heads * size.head_dim, bias=False)
        self.v_proj = nn.Linear(size.width, size.key_heads * size.head_dim, bias=False)
        self.o_proj = nn.Linear(size.heads * size.head_dim, size.width, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(size.head_dim, 1e-6), nn.RMSNorm(size.head_dim, 1e-6)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The output, and the scores of the first head before the softmax, shape ``[utterances, queries, keys]``."""
        q = _rotate(self.q_norm(_split(self.q_proj(x), self.heads)), turn)
        k = _rotate(self.k_norm(_split(self.k_proj(x), self.key_heads)), turn)
        v = _split(self.v_proj(x), self.key_heads)
        k, v = (part.repeat_interleave(self.heads // self.key_heads, dim=1) for part in (k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q[:, 0] @ k[:, 0].transpose(1, 2) / math.sqrt(q.shape[-1]) if self.training else x
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), scores


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, 3 * width, bias=False)
        self.up_proj = nn.Linear(width, 3 * width, bias=False)
        self.down_proj = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(size), FeedForward(size.width)
        self.input_layernorm = nn.RMSNorm(size.width, 1e-6)
        self.post_attention_layernorm = nn.RMSNorm(size.width, 1e-6)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        mixed, scores = self.self_attn(self.input_layernorm(x), turn)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), scores


@dataclass(frozen=True, slots=True)
class Hidden:
    """States of the language model, shape ``[utterances, longest, width]``."""

    last: Tensor
    """Before the vocabulary."""
    early: Tensor
    """After the second layer."""
    scores: Tensor
    """Of the third layer's first head, while training; see `Attention.forward`."""


class LanguageModel(nn.Module):
    def __init__(self, size: Size, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, size.width)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width, 1e-6)
        self._head_dim = size.head_dim

    def forward(self, x: Tensor) -> Hidden:
        frequencies = ROPE_BASE ** -(torch.arange(0, self._head_dim, 2) / self._head_dim)
        angles = torch.arange(x.shape[1])[:, None] * frequencies
        turn = (angles.cos(), angles.sin())
        early = scores = x
        for n, layer in enumerate(self.layers):
            x, looked = layer(x, turn)
            early = x if n == 1 else early
            scores = looked if n == 2 else scores
        return Hidden(self.norm(x), early, scores)


class Thinker(nn.Module):
    def __init__(self, size: Size, vocabulary: int) -> None:
        super().__init__()
        self.audio_tower = Encoder(size)
        self.model = LanguageModel(size, vocabulary)


class Network(nn.Module):
    """The whole model; its ``state_dict`` is the checkpoint.

    Args:
        audio: id of the token that stands for a position of audio.
        end: id of the token that ends an answer.
    """

    def __init__(self, size: Size, vocabulary: int, audio: int, end: int) -> None:
        super().__init__()
        self.thinker = Thinker(size, vocabulary)
        self.audio, self.end = audio, end

    def forward(self, features: Tensor, frames: Sequence[int], ids: Tensor) -> tuple[Hidden, Tensor]:
        """Run on whole sequences.

        Args:
            features: see `Encoder.forward`.
            ids: shape ``[utterances, longest]``, an audio token for each position of audio.

        Returns:
            States, and what the encoder's convolutions found.
        """
        positions, local = self.thinker.audio_tower(features, frames)
        real = torch.cat([positions[n, : positions_of(count)] for n, count in enumerate(frames)])
        x = self.thinker.model.embed_tokens(ids)
        x = x.masked_scatter((ids == self.audio)[:, :, None], real.to(x.dtype))
        return self.thinker.model(x), local

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.thinker.model.embed_tokens.weight.T

    def greedy(self, features: Tensor, ids: Sequence[int], longest: int = 60) -> list[int]:
        """The most likely answer to one utterance.

        Args:
            features: shape ``[BINS, frames]``.
            ids: the prompt.
        """
        frames = features.shape[1]
        padded = functional.pad(features, (0, -frames % CHUNK))[None]
        answer: list[int] = []
        with torch.no_grad():
            while len(answer) < longest:
                hidden, _ = self(padded, [frames], torch.tensor([[*ids, *answer]]))
                token = int(self.logits(hidden.last[0, -1]).argmax())
                if token == self.end:
                    break
                answer.append(token)
        return answer


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = turn
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)
