"""Token ids of prompts and answers, as the server writes and reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from streaming_asr.recognizers.vllm.models.qwen3_prompt import AUDIO, TEXT_TAG, Qwen3Prompt
from tests.vllm.trained.checkpoint import load_tokenizer, write_tokenizer
from tests.vllm.trained.examples import Example
from tests.vllm.trained.network import positions_of
from tests.vllm.trained.vocabulary import LANGUAGES


class Codec:
    """The checkpoint's tokenizer, with the prompt of the recognizer."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.vocabulary = write_tokenizer(Path(folder))
            self.tokenizer, template = load_tokenizer(Path(folder))
        self.prompt = Qwen3Prompt(self.tokenizer, template)
        self.audio, self.end = self.vocabulary[AUDIO], self.vocabulary["<|im_end|>"]
        self._tag = self.vocabulary[TEXT_TAG]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def prompt_ids(self, one: Example) -> list[int]:
        """The prompt, with an audio token for each position of the audio."""
        ids = self.prompt.ids(1, one.context, None)
        at = ids.index(self.audio)
        return [*ids[:at], *[self.audio] * positions_of(one.features.shape[1]), *ids[at + 1 :]]

    def answer_ids(self, one: Example) -> tuple[list[int], list[int]]:
        """What the prompt ends with where the language is forced, and what the model is to write."""
        head = [*self.encode(f"language {LANGUAGES[one.language][0] if one.language else 'None'}"), self._tag]
        text = [*self.encode(one.text), self.end]
        return (head, text) if one.forced else ([], [*head, *text])
