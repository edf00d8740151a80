"""What guides the training besides the answers: phones, words and their order, where they are spoken.

From the answers alone a model of this size takes very long to find out that it must look at the audio, word by word.
espeak-ng reports the place of every phone and word, so that can be taught directly. None of it is kept in the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from streaming_asr.core.mel import HOP
from tests.vllm.trained.checkpoint import SIZE
from tests.vllm.trained.codec import Codec
from tests.vllm.trained.examples import WORDS, Example
from tests.vllm.trained.network import CHUNK, CHUNK_TOKENS, Hidden, positions_of
from tests.vllm.trained.synthesis import ACCENTS, Voice, speak
from tests.vllm.trained.vocabulary import LANGUAGES

WEIGHTS = {"phones": 0.5, "words": 1.0, "order": 0.5, "asked": 0.3, "looking": 0.5}
"""Of each guide's loss, where that of the answers has 1."""
NO_LOSS = -100
"""A target that does not count, as `cross_entropy` has it."""
MOST_ORDER = 16
"""Numbers of words; all from the last on are one."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Targets for the positions of one example's audio."""

    phones: NDArray[np.int64]
    words: NDArray[np.int64]
    """At the end of each word its index in `WORDS`; their number where no word is."""
    order: NDArray[np.int64]
    """At the end of each word the number of words before it."""


def labels_of(one: Example) -> Labels:
    at = np.arange(positions_of(one.features.shape[1]))
    # Sample at the middle of each position, which stands for eight frames.
    middle = (at // CHUNK_TOKENS * CHUNK + at % CHUNK_TOKENS * 8 + 4) * HOP
    numbers = phone_numbers()
    phones = np.zeros(len(at), np.int64)
    for start, name in one.phones:
        phones[middle >= start] = numbers.get(_plain(name), 0)
    words, order = np.full(len(at), len(WORDS)), np.full(len(at), NO_LOSS)
    for n, (start, end, word) in enumerate(one.spoken):
        words[(middle >= start) & (middle < end)] = NO_LOSS
        ending = (middle >= end - 0.35 * (end - start)) & (middle < end + 3 * 8 * HOP)
        words[ending], order[ending] = word, min(n, MOST_ORDER - 1)
    return Labels(phones, words, order)


@lru_cache
def phone_numbers() -> dict[str, int]:
    """All phones of the vocabulary; 0 is the pause."""
    names = {
        _plain(name)
        for language, (_, words) in LANGUAGES.items()
        for accent in ACCENTS[language]
        for word in words
        for _, name in speak([word], Voice(accent)).phones
    }
    return {name: n for n, name in enumerate(["", *sorted(names - {""})])}


def _plain(name: str) -> str:
    """A phone without stress; all pauses are the same."""
    return name.strip("',0123456789").replace("_:", "").replace("_|", "").replace("_", "")


def words_asked(codec: Codec, one: Example, answer: Sequence[int]) -> list[int]:
    """For each token of an answer the number of the word that it begins in; `NO_LOSS` where that is none."""
    if one.language == "en":
        words = [f"{word} " for word in one.text.removesuffix(".").split(" ")]
    else:
        words = [WORDS[word] for _, _, word in one.spoken]
    of_char = [n for n, word in enumerate(words) for _ in word][: len(one.text) - 1]
    head = len(answer) - 1 - len(codec.encode(one.text))
    asked, chars = [NO_LOSS] * head, 0
    for token in answer[head:-1]:
        piece = codec.tokenizer.decode([token])
        begin = chars + (piece[:1] == " ")
        asked.append(min(of_char[begin], MOST_ORDER - 1) if begin < len(of_char) else NO_LOSS)
        chars += len(piece)
    return [*asked, NO_LOSS]


class Guides(nn.Module):
    """Linear layers that name phones and words from the states of a `Network`."""

    def __init__(self) -> None:
        super().__init__()
        self.phones = nn.Linear(SIZE.encoder_width, len(phone_numbers()))
        self.words = nn.Linear(SIZE.width, len(WORDS) + 1)
        self.order = nn.Linear(SIZE.width, MOST_ORDER)

    def forward(self, hidden: Hidden, local: Tensor, is_audio: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of each guide.

        Args:
            local: what the convolutions found, at the positions of audio, one utterance after the other.
            is_audio: whether each token is a position of audio, shape ``[utterances, longest]``.
            targets: ``phones``, ``words`` and ``order`` for the positions of audio, ``asked`` for all tokens.
        """
        early = hidden.early[is_audio]
        found = {
            "phones": self.phones(local),
            "words": self.words(early),
            "order": self.order(early),
            "asked": self.order(hidden.early).flatten(0, 1),
        }
        losses = {
            name: functional.cross_entropy(logits.float(), targets[name].flatten()).nan_to_num()
            for name, logits in found.items()
        }
        order = torch.full_like(targets["asked"], NO_LOSS)
        order[is_audio] = targets["order"]
        return {**losses, "looking": looking_loss(hidden.scores, targets["asked"], order)}


def looking_loss(scores: Tensor, asked: Tensor, order: Tensor) -> Tensor:
    """Negative log-probability that the positions which write a word attend to where it is spoken.

    Args:
        scores: of the attention before the softmax, shape ``[utterances, queries, keys]``.
        asked: number of the word that each position writes, shape ``[utterances, queries]``.
        order: number of the word that is spoken at each position, shape ``[utterances, keys]``.
    """
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    log_attention = scores.float().masked_fill(later, -torch.inf).log_softmax(-1)
    there = (asked[:, :, None] == order[:, None, :]) & (asked != NO_LOSS)[:, :, None]
    right = log_attention.masked_fill(~there, -torch.inf).logsumexp(-1)
    return -right[there.any(-1)].mean().nan_to_num()
