"""Qwen3-ASR's prompt, from the checkpoint's own template and tokenizer, and how its answer is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streaming_asr.core.recognizer import Context
from streaming_asr.recognizers.vllm.models.qwen3_languages import NAME_OF, code_of

AUDIO = "<|audio_pad|>"
"""Stands for one audio item; the engine puts as many of it as the item has positions."""
TEXT_TAG = "<asr_text>"
"""Between the language and the text. An ordinary token: it is not skipped as special ones are."""

_CHATML = re.compile(r"<\|[^|]*\|>")
_MARK = "\ue000"
"""Stands for the context while the template is filled in. From the private use area."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The parts of the model's answer."""

    start: int
    """Index of the text's first token; the number of tokens where there is no text."""
    language: str | None = None
    """ISO 639-1 code."""
    silent: bool = False
    """The model found no speech."""


class Qwen3Prompt:
    """Builds prompts and reads answers.

    Args:
        tokenizer: Transformers' tokenizer of the checkpoint.
        template: the checkpoint's chat template.
        max_context: tokens beyond which context is cut: the oldest text goes first.

    Raises:
        ValueError: tokenizer or template are not those of a Qwen3-ASR; the message says what is missing.
    """

    def __init__(self, tokenizer: Any, template: str, *, max_context: int = 1024) -> None:
        self._tokenizer = tokenizer
        self._max_context = max_context
        vocabulary = tokenizer.get_vocab()
        for token in (AUDIO, TEXT_TAG):
            if token not in vocabulary:
                raise ValueError(f"its tokenizer has no {token}")
        self._audio: int = vocabulary[AUDIO]
        self._text_tag: int = vocabulary[TEXT_TAG]
        self._markup = frozenset(tokenizer.added_tokens_decoder)
        """Ids that are not text: special tokens and tags."""
        messages = [
            {"role": "system", "content": _MARK},
            {"role": "user", "content": [{"type": "audio", "audio": ""}]},
        ]
        filled: str = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        if filled.count(_MARK) != 1 or filled.count(AUDIO) != 1 or filled.index(_MARK) > filled.index(AUDIO):
            raise ValueError("its chat template does not put the system turn and one audio, in this order")
        before, rest = filled.split(_MARK)
        middle, after = rest.split(AUDIO)
        self._before, self._middle, self._after = map(self._encode, (before, middle, after))

    def ids(self, items: int, context: Context, language: str | None, prefix: Sequence[int] = ()) -> list[int]:
        """The prompt's ids.

        Args:
            items: audio items, which follow each other without anything between.
            language: ISO 639-1 code that is forced, or None.
            prefix: tokens that the text starts with; with these the language must be given.
        """
        ids = [*self._before, *self._context(context), *self._middle, *[self._audio] * items, *self._after]
        if language is not None:
            ids += [*self._encode(f"language {NAME_OF[language]}"), self._text_tag]
        return [*ids, *prefix]

    def read(self, tokens: Sequence[int], *, forced: bool) -> Answer:
        """Find language and text: ``language English<asr_text>And so`` or, where a language was forced, ``And so``."""
        if forced:
            return Answer(0)
        if self._text_tag not in tokens:
            # All of it is text, or the length limit cut off the head.
            head = self._tokenizer.decode(list(tokens)).lstrip()
            return Answer(len(tokens) if head.startswith("language") else 0)
        tag = tokens.index(self._text_tag)
        name = self._tokenizer.decode(list(tokens[:tag])).strip().removeprefix("language").strip()
        if name == "None":
            return Answer(len(tokens), silent=True)
        return Answer(tag + 1, code_of(name))

    def is_text(self, token: int) -> bool:
        """Whether a token is text, neither special nor a tag."""
        return token not in self._markup

    def symbol(self, token: int) -> str | None:
        """The vocabulary's entry of a token."""
        symbol: str | None = self._tokenizer.convert_ids_to_tokens(token)
        return symbol

    def _context(self, context: Context) -> list[int]:
        background = self._encode(strip_markup("\n".join(filter(None, (context.text, ", ".join(context.keywords))))))
        previous = self._encode(strip_markup(context.previous))
        background = background[: max(self._max_context // 2, self._max_context - len(previous))]
        if background and previous:
            background += self._encode("\n")
        return background + previous[max(0, len(background) + len(previous) - self._max_context) :]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def strip_markup(text: str) -> str:
    """Take out what the tokenizer would read as a turn of the conversation, however it is nested."""
    before = None
    while text != before:
        before = text
        text = _CHATML.sub("", text).replace(TEXT_TAG, "").replace(_MARK, "")
    return text.strip()
