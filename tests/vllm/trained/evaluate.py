"""Counts the errors of the trained checkpoint on sentences that it was not trained on.

    python -m tests.vllm.trained.evaluate

Voices, sentences and disturbances are those of `HELD_OUT` and of a seed that the training does not use.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch

from streaming_asr.recognizers.vllm.models.qwen3_prompt import TEXT_TAG
from tests.vllm.trained.checkpoint import WEIGHTS, load_network
from tests.vllm.trained.codec import Codec
from tests.vllm.trained.examples import Example, example
from tests.vllm.trained.network import Network
from tests.vllm.trained.synthesis import HELD_OUT
from tests.vllm.trained.vocabulary import LANGUAGES

SEED = 11


@dataclass(frozen=True, slots=True)
class Score:
    """Errors in a set of examples."""

    errors: dict[str, float]
    """Share of the English words (``en``) and of the Mandarin characters (``zh``) that are wrong."""
    spoken: dict[str, int]
    """Sentences of each language."""
    wrong_languages: int
    """Answers of any example that do not begin with its language, or with ``language None`` for noise."""
    silent: int
    """Examples without speech that got no text, of `speechless`."""
    speechless: int
    mistakes: tuple[tuple[str, str], ...]
    """Sentences that were not answered exactly, each with its answer."""

    def __str__(self) -> str:
        spoken = sum(self.spoken.values())
        return (
            f"{self.errors['en']:.1%} of the English words and {self.errors['zh']:.1%} of the Mandarin characters are "
            f"wrong in {self.spoken['en']} and {self.spoken['zh']} sentences; "
            f"{self.wrong_languages} of {spoken + self.speechless} languages are wrong; "
            f"{self.silent} of {self.speechless} without speech have no text"
        )


def evaluate(network: Network, codec: Codec, examples: Sequence[Example]) -> Score:
    """Decode greedily and count errors."""
    training = network.training
    network.eval()
    texts: dict[str, list[tuple[str, str]]] = {language: [] for language in LANGUAGES}
    silent = speechless = wrong_languages = 0
    mistakes = []
    for one in examples:
        head, _ = codec.answer_ids(one)
        features = torch.from_numpy(one.features.astype(np.float32))
        answer = codec.tokenizer.decode([*head, *network.greedy(features, [*codec.prompt_ids(one), *head])])
        tag, _, text = answer.partition(TEXT_TAG)
        wrong_languages += tag != f"language {LANGUAGES[one.language][0] if one.language else 'None'}"
        if one.language is None or not one.text:
            speechless += 1
            silent += not text
            continue
        if text != one.text:
            mistakes.append((one.text, answer))
        texts[one.language].append((_plain(one.text, one.language), _plain(text, one.language)))
    network.train(training)
    return Score(
        errors={
            language: float(jiwer.wer([said for said, _ in pairs], [found for _, found in pairs]))
            for language, pairs in texts.items()
        },
        spoken={language: len(pairs) for language, pairs in texts.items()},
        wrong_languages=wrong_languages,
        silent=silent,
        speechless=speechless,
        mistakes=tuple(mistakes),
    )


def _plain(text: str, language: str) -> str:
    """Without capitals and punctuation; each Mandarin character a word."""
    kept = "".join(char for char in text.lower() if char.isalnum() or char == " ")
    return " ".join(kept.replace(" ", "")) if language == "zh" else kept


def held_out(count: int, *, clean: bool) -> list[Example]:
    """The given number of sentences in each language, in voices that are not trained on.

    Args:
        clean: whole sentences with next to no noise and no context; otherwise noise without speech is among them.
    """
    random = np.random.default_rng(SEED)
    missing = dict.fromkeys(LANGUAGES, count)
    found = []
    while any(missing.values()):
        one = example(random, HELD_OUT, clean=clean)
        if one.language is not None and one.text:
            if not missing[one.language]:
                continue
            missing[one.language] -= 1
        found.append(one)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--sentences", type=int, default=100, help="of each language, and of each set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec()
    network = load_network(options.weights, codec.vocabulary)
    for name, clean in (("undisturbed", True), ("disturbed", False)):
        score = evaluate(network, codec, held_out(options.sentences, clean=clean))
        print(f"{name}: {score}", flush=True)
        for spoken, answer in score.mistakes:
            print(f"    {spoken} -> {answer}")
