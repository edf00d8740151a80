"""What the recognizer is given as context, and when a language is locked."""

from __future__ import annotations

import pytest

from streaming_asr.core.context import MAX_PREVIOUS_CHARS, ContextWindow
from streaming_asr.core.language_lock import LOCK_AFTER
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
