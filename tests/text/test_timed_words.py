"""Words of a text and the times they are given."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.text.timed_words import plain, timed_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("To be, or not.", ["To", "be,", "or", "not."]),
        ("你好，世界。", ["你", "好，", "世", "界。"]),
        ("用 Qwen3 模型", ["用", "Qwen3", "模", "型"]),
        ("« Oui » dit-il", ["«Oui»", "dit-il"]),
        ("Il dit « oui » !", ["Il", "dit", "«oui»!"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("สวัสดี ครับ", ["ส", "วั", "ส", "ดี", "ค", "รั", "บ"]),
        ("", []),
        ("…", []),
    ],
)
def test_words_bear_their_punctuation(text: str, words: list[str]) -> None:
    assert [word.text for word in timed_words(text, 0, 1000)] == words


@pytest.mark.parametrize("text", ["a bbb", "é éée\u0301", "a 我b"])
def test_time_is_shared_out_by_width(text: str) -> None:
    starts = [word.start_ms for word in timed_words(text, 1000, 2000)]
    assert starts[:2] == [1000, 1250]


@given(st.text(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_words_fill_the_speech_in_order(text: str, start_ms: int, length_ms: int) -> None:
    words = timed_words(text, start_ms, start_ms + length_ms)
    times = [time for word in words for time in (word.start_ms, word.end_ms)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    if words:
        assert (times[0], times[-1]) == (start_ms, start_ms + length_ms)
    assert all(plain(word.text) for word in words)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Don't stop, Mr. O'Neill!", "don't stop mr o'neill"),
        ("3.5% — “yes”…", "3.5 yes"),
        ("你好，世界。", "你好 世界"),
        ("สวัสดี", "สวัสดี"),
        ("नमस्ते, दुनिया।", "नमस्ते दुनिया"),
        ("人々［笑い］", "人々 笑い"),
    ],
)
def test_plain_text(text: str, bare: str) -> None:
    assert plain(text) == bare
