"""Trains the checkpoint on one core, and writes its weights at the end.

    python -m tests.vllm.trained.train --minutes 60

Needs ``espeakng-loader``. Speech is synthesized in a process beside the training, without end. Every four minutes the
log gets the errors in held-out voices, and a file beside it gets the state, from which ``--start`` goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tests.vllm.trained.checkpoint import SIZE, WEIGHTS
from tests.vllm.trained.codec import Codec
from tests.vllm.trained.evaluate import evaluate
from tests.vllm.trained.examples import Example, example
from tests.vllm.trained.guides import NO_LOSS, Guides, labels_of, words_asked
from tests.vllm.trained.guides import WEIGHTS as GUIDE_WEIGHTS
from tests.vllm.trained.network import BINS, CHUNK, Encoder, Network, positions_of
from tests.vllm.trained.synthesis import HELD_OUT

BATCH = 16
SORTED = 16
"""Batches that are drawn together and sorted by length; one of them is trained on."""
LEAST_BUFFERED = 32 * BATCH
MOST_BUFFERED = 12_000
"""Examples that are kept; each is trained on several times while newer ones come."""
CHECKS = 80
EVALUATE_EVERY_S = 240
LOG_EVERY = 50


@dataclass(frozen=True, slots=True)
class Batch:
    features: Tensor
    """Shape ``[BATCH, BINS, longest]``."""
    frames: list[int]
    ids: Tensor
    """Prompts and answers, shape ``[BATCH, tokens]``."""
    next_ids: Tensor
    """The token after each one of an answer, same shape."""
    guides: dict[str, Tensor]
    """See `Guides.forward`."""


def collate(codec: Codec, examples: Sequence[Example]) -> Batch:
    frames = [one.features.shape[1] for one in examples]
    features = torch.zeros(len(examples), BINS, math.ceil(max(frames) / CHUNK) * CHUNK)
    ids, next_ids, asked = [], [], []
    for n, one in enumerate(examples):
        features[n, :, : frames[n]] = torch.from_numpy(one.features.astype(np.float32))
        head, answer = codec.answer_ids(one)
        prompt = [*codec.prompt_ids(one), *head]
        ids.append([*prompt, *answer])
        next_ids.append([*[NO_LOSS] * (len(prompt) - 1), *answer, NO_LOSS])
        asked.append([*[NO_LOSS] * (len(prompt) - 1), *words_asked(codec, one, answer), NO_LOSS])
    labels = [labels_of(one) for one in examples]
    return Batch(
        features,
        frames,
        _padded(ids, codec.end),
        _padded(next_ids, NO_LOSS),
        {
            "phones": torch.from_numpy(np.concatenate([one.phones for one in labels])),
            "words": torch.from_numpy(np.concatenate([one.words for one in labels])),
            "order": torch.from_numpy(np.concatenate([one.order for one in labels])),
            "asked": _padded(asked, NO_LOSS),
        },
    )


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def blurred(features: Tensor, frames: Sequence[int], random: Generator) -> Tensor:
    """Some bands and moments hidden (SpecAugment, arXiv 1904.08779), so that an example that comes again differs."""
    features = features + 0.03 * torch.randn(features.shape[0], BINS, 1) + 0.02 * torch.randn(features.shape[0], 1, 1)
    for n, count in enumerate(frames):
        features[n, :, count:] = 0
        low = features[n, :, :count].min()
        for _ in range(random.integers(0, 3)):
            at, width = random.integers(BINS), random.integers(1, 16)
            features[n, at : at + width, :count] = low
        if random.random() < 0.5:
            at, width = random.integers(count), random.integers(1, 10)
            features[n, :, at : min(count, at + width)] = low
    return features


def balance(encoder: Encoder, features: Tensor) -> None:
    """Scale the convolutions so that the output of each has a standard deviation of 1 (LSUV, arXiv 1511.06422).

    As torch initializes them, position embeddings would drown the sound.
    """
    with torch.no_grad():
        x = features[:, None]
        for convolution in (encoder.conv2d1, encoder.conv2d2, encoder.conv2d3):
            convolution.bias.zero_()
            convolution.weight /= convolution(x).std()
            x = functional.gelu(convolution(x))
        encoder.conv_out.weight /= encoder.conv_out(x.permute(0, 3, 1, 2).flatten(2)).std()


def feed(queue: Any, seed: int, short_s: float) -> None:
    """Make examples without end, for the first `short_s` seconds short ones, which are cheaper to learn from."""
    torch.set_num_threads(1)
    random = np.random.default_rng(seed)
    until = time.monotonic() + short_s
    while True:
        queue.put([example(random, short=time.monotonic() < until) for _ in range(BATCH)])


class Trainer:
    """A network, the mean of its latest weights, and the optimizer.

    Args:
        rate: the highest learning rate; it follows half a cosine down to almost nothing.
        warm: steps until it is reached.
        start: state of an earlier training.
    """

    def __init__(self, codec: Codec, rate: float, warm: int, start: Path | None) -> None:
        self.codec = codec
        self.step = 0
        self._rate, self._warm = rate, warm
        self._random = np.random.default_rng(1)
        self._network = Network(SIZE, len(codec.vocabulary), codec.audio, codec.end)
        torch.nn.init.normal_(self._network.thinker.model.embed_tokens.weight, std=0.08)
        self._guides = Guides()
        self._balanced = start is not None
        if start is not None:
            state = torch.load(start)
            self._network.load_state_dict(state["network"])
            self._guides.load_state_dict(state["aligner"])
        self.mean = copy.deepcopy(self._network)
        self._parameters = [*self._network.parameters(), *self._guides.parameters()]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.02)

    def learn(self, examples: Sequence[Example], passed: float) -> dict[str, float]:
        """Take one step.

        Args:
            examples: some batches; those of about the same length are taken.
            passed: share of the time that is over, from 0 to 1.

        Returns:
            The losses.
        """
        self.step += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(passed)
        ordered = sorted(examples, key=lambda one: one.features.shape[1])
        at = BATCH * int(self._random.integers(len(examples) // BATCH))
        batch = collate(self.codec, ordered[at : at + BATCH])
        if not self._balanced:
            balance(self._network.thinker.audio_tower, batch.features[:, :, :CHUNK])
            self._balanced = True
        wanted = batch.next_ids != NO_LOSS
        with torch.autocast("cpu", torch.bfloat16):
            features = blurred(batch.features, batch.frames, self._random)
            hidden, local = self._network(features, batch.frames, batch.ids)
            logits = self._network.logits(hidden.last[wanted]).float()
            local = torch.cat([local[n, : positions_of(count)] for n, count in enumerate(batch.frames)])
            losses = self._guides(hidden, local, batch.ids == self.codec.audio, batch.guides)
        loss = functional.cross_entropy(logits, batch.next_ids[wanted])
        self._optimizer.zero_grad()
        (loss + sum(GUIDE_WEIGHTS[name] * guide for name, guide in losses.items())).backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        decay = min(0.995, self.step / (self.step + 20))
        with torch.no_grad():
            for mean, value in zip(self.mean.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return {"loss": loss.item(), **{name: guide.item() for name, guide in losses.items()}}

    def rate(self, passed: float) -> float:
        return self._rate * min(1, self.step / self._warm) * (0.52 + 0.5 * math.cos(math.pi * min(1, passed)))

    def save(self, path: Path) -> None:
        """Save the state to go on from."""
        torch.save({"network": self.mean.state_dict(), "aligner": self._guides.state_dict()}, path)

    def save_weights(self, path: Path) -> None:
        weights = self.mean.state_dict()
        save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, path)


def train(trainer: Trainer, minutes: float, short: float, log: Path) -> None:
    """Train for a time, then write `WEIGHTS`; the log gets a line of JSON every `LOG_EVERY` steps.

    Args:
        short: share of the time with short sentences only.
    """
    random = np.random.default_rng(7)
    checks = [example(random, HELD_OUT, clean=n % 3 > 0) for n in range(CHECKS)]
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue(4)
    feeder = context.Process(target=feed, args=(queue, int(time.time()), 60 * minutes * short), daemon=True)
    feeder.start()
    buffer: list[Example] = []
    losses: list[dict[str, float]] = []
    began = evaluated = time.monotonic()
    while True:
        # At most half a new batch for each step: to make examples takes as long as to train on them.
        while len(buffer) < LEAST_BUFFERED:
            buffer += queue.get()
        if trainer.step % 2 == 0 and not queue.empty():
            buffer += queue.get()
        del buffer[:-MOST_BUFFERED]
        passed = (time.monotonic() - began) / 60 / minutes
        over = passed >= 1
        if not over:
            drawn = random.integers(len(buffer), size=BATCH * SORTED)
            losses.append(trainer.learn([buffer[n] for n in drawn], passed))
        if not over and trainer.step % LOG_EVERY:
            continue
        line: dict[str, Any] = {
            "minutes": round(passed * minutes, 2),
            "step": trainer.step,
            "rate": round(trainer.rate(passed), 6),
            "examples": len(buffer),
            **{name: round(float(np.mean([loss[name] for loss in losses])), 4) for name in losses[0]},
        }
        losses = losses[-1:]
        if over or time.monotonic() - evaluated > EVALUATE_EVERY_S:
            score = evaluate(trainer.mean, trainer.codec, checks)
            line |= {language: round(share, 4) for language, share in score.errors.items()}
            line["mistakes"] = score.mistakes[:4]
            trainer.save(log.with_suffix(".pt"))
            evaluated = time.monotonic()
        with log.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if over:
            break
    trainer.save_weights(WEIGHTS)
    feeder.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--log", type=Path, default=Path("training.jsonl"))
    parser.add_argument("--start", type=Path, help="the file .pt beside the log of an earlier training, to go on from")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="the highest learning rate")
    parser.add_argument("--warm", type=int, default=200, help="steps until the learning rate is reached")
    parser.add_argument("--short", type=float, default=0.3, help="share of the time with short sentences only")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train(Trainer(Codec(), options.rate, options.warm, options.start), options.minutes, options.short, options.log)
