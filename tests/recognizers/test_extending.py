"""The examples of docs/extending/recognizer.md and vllm_model.md, as they stand there."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from streaming_asr.core.recognizer import SAMPLE_RATE, DecodeJob, Kind
from streaming_asr.recognizers.vllm.models.base import Completion, Request

PAGES = Path(__file__).parents[2] / "docs" / "extending"

COMMON = {"SAMPLE_RATE": SAMPLE_RATE, "DecodeJob": DecodeJob, "Kind": Kind, "asyncio": asyncio, "np": np}


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)


def module(monkeypatch: pytest.MonkeyPatch, name: str, code: str, **names: Any) -> Any:
    """The module of this name that has this code."""
    made: Any = ModuleType(name)
    made.__dict__.update(names)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(code, name, "exec"), made.__dict__)
    return made


class FakeTokenizer:
    """Three words and the special tokens of an English Whisper."""

    def get_vocab(self) -> dict[str, int]:
        return {"<|startoftranscript|>": 50257, "<|notimestamps|>": 50362}

    def convert_ids_to_tokens(self, token: int) -> str:
        return {1: "\u0120to", 2: "\u0120be"}[token]


def test_the_recognizer_works_and_so_does_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, factory, _, test = blocks("recognizer.md")
    package = "streaming_asr.recognizers.counting"
    module(monkeypatch, package, "")
    made = module(monkeypatch, f"{package}.recognizer", recognizer)
    offered = module(monkeypatch, f"{package}.factory", factory).FACTORY
    parser = argparse.ArgumentParser()
    offered.add_flags(parser.add_argument_group("recognizer"))
    assert offered.serves("counting")
    assert offered.create(parser.parse_args(["--counting-threads=3"])).capabilities.concurrency == 3
    tested = module(monkeypatch, "counting_test", test, CountingRecognizer=made.CountingRecognizer, **COMMON)
    tested.test_seconds_are_counted_and_a_prefix_is_kept()


def test_the_vllm_model_works_and_so_does_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, test = blocks("vllm_model.md")
    made = module(monkeypatch, "streaming_asr.recognizers.vllm.models.small_whisper", model)
    names = {"Completion": Completion, "Request": Request, "FakeTokenizer": FakeTokenizer}
    tested = module(monkeypatch, "small_whisper_test", test, SmallWhisper=made.SmallWhisper, **names, **COMMON)
    tested.test_a_prefix_stands_before_the_text_and_goes_into_the_prompt()
