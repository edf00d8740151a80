"""What the recognizer is given as context, and when a hypothesis repeats it."""

from __future__ import annotations

import pytest

from streaming_asr.core.context import LOCK_AFTER, MAX_PREVIOUS_CHARS, ContextWindow, is_echo, words_of
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Context, Hypothesis


def _window(rolling: bool = True, **options: object) -> ContextWindow:
    return ContextWindow(SessionOptions(**options), rolling=rolling)  # type: ignore[arg-type]


def _heard(language: str, probability: float = 0.95) -> Hypothesis:
    return Hypothesis(language=language, language_probability=probability)


def test_earlier_finals_roll_and_are_bounded() -> None:
    window = _window()
    for number in range(200):
        window.add_final(f"sentence {number}", _heard("en"))
    previous = window.build().previous
    assert previous.endswith("sentence 199")
    assert len(previous) <= MAX_PREVIOUS_CHARS + 50
    window.add_final("x" * 10_000, _heard("en"))
    assert len(window.build().previous) <= MAX_PREVIOUS_CHARS


def test_without_rolling_only_the_client_s_words_are_told() -> None:
    window = _window(rolling=False, keywords=("Qwen",), context="a call")
    window.add_final("hello", _heard("en"))
    assert window.build() == Context("a call", ("Qwen",), "")


def test_a_language_locks_after_confident_finals() -> None:
    window = _window()
    for _ in range(LOCK_AFTER):
        assert window.language is None
        window.add_final("wie geht es dir", _heard("de"))
    assert window.language == "de"


@pytest.mark.parametrize(
    ("text", "hypothesis"),
    [
        ("ja", _heard("de")),
        ("wie geht es dir", _heard("de", 0.5)),
        ("wie geht es dir", Hypothesis()),
    ],
)
def test_short_or_doubtful_finals_lock_nothing(text: str, hypothesis: Hypothesis) -> None:
    window = _window()
    for _ in range(5):
        window.add_final(text, hypothesis)
    assert window.language is None


def test_languages_that_change_lock_nothing() -> None:
    window = _window()
    for language in ("de", "en", "de", "en"):
        window.add_final("three words here", _heard(language))
    assert window.language is None


def test_the_client_s_choice_goes_before_the_lock() -> None:
    window = _window(language="en")
    for _ in range(3):
        window.add_final("wie geht es dir", _heard("de"))
    assert window.language == "en"
    window.reconfigure(SessionOptions(), rolling=True)
    assert window.language is None


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


def test_words_are_counted_in_scripts_without_spaces() -> None:
    assert words_of("Hello, wörld's 你好!") == ["hello", "wörld's", "你", "好"]
    assert words_of("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]


def test_one_word_of_hindi_locks_no_language() -> None:
    window = _window()
    for _ in range(LOCK_AFTER):
        window.add_final("प्रतियोगिता", _heard("hi"))
    assert window.language is None


def test_earlier_finals_are_joined_as_their_script_is_written() -> None:
    window = _window()
    for text in ("今天天气很好。", "我们去散步。"):
        window.add_final(text, _heard("zh"))
    assert window.build().previous == "今天天气很好。我们去散步。"
