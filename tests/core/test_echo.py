"""Texts that repeat the context are distinguished from speech."""

from __future__ import annotations

import pytest

from streaming_asr.core.echo import is_echo
from streaming_asr.core.recognizer import Context

KEYWORDS = Context(keywords=("Qwen", "vLLM", "Ascend"))


@pytest.mark.parametrize(
    ("text", "context", "voiced_s", "echo"),
    [
        ("Qwen, vLLM, Ascend.", KEYWORDS, 5.0, True),
        ("vLLM Ascend", KEYWORDS, 5.0, True),
        ("Qwen", KEYWORDS, 1.0, False),
        ("we run Qwen with vLLM on Ascend", KEYWORDS, 3.0, False),
        ("New York", Context(keywords=("New York", "Boston")), 1.0, False),
        ("thank you for calling us", Context(text="Thank you for calling us today."), 0.3, True),
        ("thank you for calling us", Context(text="Thank you for calling us today."), 2.0, False),
        ("see you tomorrow then", Context(previous="see you tomorrow then"), 0.2, True),
        ("出现交易", Context(previous="甚至出现交易几乎停滞的情况"), 0.2, True),
        ("ขอบคุณครับ", Context(text="ขอบคุณครับ"), 0.2, True),
        ("खरीद", Context(text="खरीदारी में"), 0.2, False),
        ("anything", Context(), 0.1, False),
    ],
)
def test_an_echo_is_told_from_speech(text: str, context: Context, voiced_s: float, echo: bool) -> None:
    assert is_echo(text, context, voiced_s) is echo
