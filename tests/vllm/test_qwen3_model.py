"""Qwen3-ASR's side without an engine: loops, and how it writes an answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from streaming_asr.core.recognizer import DecodeJob, Hypothesis, Kind
from streaming_asr.recognizers.vllm.models.base import Completion, Request
from streaming_asr.recognizers.vllm.models.qwen3_asr import Qwen3ASR
from streaming_asr.recognizers.vllm.models.qwen3_audio import Form, Geometry
from streaming_asr.recognizers.vllm.models.qwen3_prompt import Qwen3Prompt


class FakeEngine:
    """Answers one text; behind a prefix the first word of it over and over, and ends by itself."""

    def __init__(self, tokenizer: Any, prefix: tuple[int, ...]) -> None:
        self._text = tuple(tokenizer.encode("language English<asr_text>sun wind", add_special_tokens=False))
        self._prefix = prefix
        self._loop = tuple(tokenizer.encode(" sun", add_special_tokens=False)) * 20

    async def run(self, request: Request) -> Completion:
        prompt = tuple(request.prompt["prompt_token_ids"])
        text = self._loop if prompt[-len(self._prefix) :] == self._prefix else self._text
        return Completion(text, (-0.1,) * len(text), True)


@pytest.fixture(scope="module")
def tokenizer(tiny_qwen3_asr: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_qwen3_asr)


@pytest.fixture
def model(tokenizer: Any, tiny_qwen3_asr: Path) -> Qwen3ASR:
    template = str(json.loads((tiny_qwen3_asr / "chat_template.json").read_text())["chat_template"])
    return Qwen3ASR(Qwen3Prompt(tokenizer, template), Geometry(128, 800), max_model_len=4096, form=Form.WHOLE)


def test_a_loop_behind_a_prefix_is_decoded_again_without_it(model: Qwen3ASR, tokenizer: Any) -> None:
    prefix = tuple(tokenizer.encode("man", add_special_tokens=False))
    engine = FakeEngine(tokenizer, prefix)

    def decode(**more: Any) -> Hypothesis:
        job = DecodeJob(id=1, kind=Kind.PARTIAL, utterance="one", audio=np.ones(32_000, np.float32), **more)
        return asyncio.run(model.decode(job, engine.run))

    assert decode().text == "sun wind"
    again = decode(prefix=prefix)
    assert (again.text, again.cost.decodes) == ("sun wind", 2)


def test_a_raw_answer_names_the_language_before_the_text(model: Qwen3ASR) -> None:
    assert model.raw_answer("And so.", "en") == "language English<asr_text>And so."
    assert model.raw_answer("", None) == "language None<asr_text>"
