"""Whisper's side without an engine: languages that it must find out first, and what it keeps of them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from streaming_asr.core.recognizer import Context, DecodeJob, Hypothesis, Kind
from streaming_asr.recognizers.vllm.models.base import Completion, Request
from streaming_asr.recognizers.vllm.models.whisper import Whisper

END, START, ENGLISH, FRENCH, TRANSCRIBE, EARLIER, PLAIN = 50257, 50258, 50259, 50265, 50359, 50361, 50363


class FakeTokenizer:
    """The special tokens of a multilingual Whisper, and two words."""

    def get_vocab(self) -> dict[str, int]:
        return {
            "<|endoftext|>": END,
            "<|startoftranscript|>": START,
            "<|en|>": ENGLISH,
            "<|fr|>": FRENCH,
            "<|transcribe|>": TRANSCRIBE,
            "<|startofprev|>": EARLIER,
            "<|notimestamps|>": PLAIN,
        }

    def convert_ids_to_tokens(self, token: int) -> str:
        return {1: "\u0120bon", 2: "\u0120jour"}[token]

    def encode(self, text: str, **_: Any) -> list[int]:
        return [8 if "Qwen" in word else 7 for word in text.split()]


class FakeEngine:
    """Detects French, and answers two words; behind a prompt that `loops_behind` names, the first over and over."""

    def __init__(self, *loops_behind: int, text: tuple[int, ...] = (1, 2)) -> None:
        self.requests: list[Request] = []
        self._loops_behind = loops_behind
        self._text = text

    async def run(self, request: Request) -> Completion:
        self.requests.append(request)
        if request.choices is not None:
            assert set(request.choices) == {ENGLISH, FRENCH}
            return Completion((FRENCH,), (-0.1,), False)
        text = self._text
        if set(self._loops_behind) & set(request.prompt["decoder_prompt"]["prompt_token_ids"]):
            text = (1,) * 30
        return Completion(text, (-0.2, -0.3) * (len(text) // 2), True)

    def prompts(self) -> list[list[int]]:
        return [request.prompt["decoder_prompt"]["prompt_token_ids"] for request in self.requests]


def decode(
    model: Whisper, engine: FakeEngine, kind: Kind, utterance: str = "one", seconds: float = 1, **more: Any
) -> Hypothesis:
    job = DecodeJob(id=1, kind=kind, utterance=utterance, audio=np.ones(int(16_000 * seconds), np.float32), **more)
    return asyncio.run(model.decode(job, engine.run))


def test_the_language_is_detected_first() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine()
    hypothesis = decode(model, engine, Kind.PARTIAL)
    assert (hypothesis.text, hypothesis.language, hypothesis.cost.decodes) == ("bon jour", "fr", 2)
    assert hypothesis.language_probability == pytest.approx(0.905, abs=0.001)
    assert engine.prompts() == [[START], [START, FRENCH, TRANSCRIBE, PLAIN]]


def test_a_forced_language_is_not_detected_first() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine()
    assert decode(model, engine, Kind.PARTIAL, language="en").language == "en"
    assert engine.prompts() == [[START, ENGLISH, TRANSCRIBE, PLAIN]]


def test_context_and_prefix_stand_where_whisper_expects_them() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine()
    context = Context(text="a b", keywords=("c",))
    hypothesis = decode(model, engine, Kind.PARTIAL, language="fr", context=context, prefix=(2,))
    assert engine.prompts() == [[EARLIER, 7, 7, 7, START, FRENCH, TRANSCRIBE, PLAIN, 2]]
    assert hypothesis.tokens == (2, 1, 2)


def test_keywords_stay_where_earlier_finals_need_all_the_context() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine()
    context = Context(keywords=("Qwen",), previous="word " * 1000)
    decode(model, engine, Kind.PARTIAL, language="fr", context=context)
    (prompt,) = engine.prompts()
    assert 8 in prompt
    assert prompt.index(START) == 1 + 223


def test_a_word_said_over_and_over_is_kept_where_there_was_time_to_say_it() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine(text=(1,) * 12)
    assert decode(model, engine, Kind.FINAL, language="fr", seconds=4).text == " ".join(["bon"] * 12)
    assert decode(model, engine, Kind.FINAL, language="fr", seconds=1).text == "bon"


def test_a_loop_behind_a_prefix_is_decoded_again_without_it() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine(2)
    hypothesis = decode(model, engine, Kind.PARTIAL, language="fr", prefix=(2,))
    assert (hypothesis.text, hypothesis.cost.decodes) == ("bon jour", 2)


def test_a_loop_behind_a_context_is_decoded_again_without_it() -> None:
    model, engine = Whisper(FakeTokenizer()), FakeEngine(7)
    hypothesis = decode(model, engine, Kind.PARTIAL, language="fr", prefix=(2,), context=Context(text="a"))
    assert (hypothesis.text, hypothesis.cost.decodes) == ("bon jour", 3)


def test_another_models_tokenizer_is_refused() -> None:
    class Other(FakeTokenizer):
        def get_vocab(self) -> dict[str, int]:
            return {"<s>": 0}

    with pytest.raises(ValueError, match="endoftext"):
        Whisper(Other())
