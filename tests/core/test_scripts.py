"""Writing systems: where texts have spaces, what counts as a word, how wide characters are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core.scripts import find_words, joined, lower_words, split, width
from tests.support.vectors import cases


@pytest.mark.parametrize("case", cases("scripts", "split"), ids=lambda case: case["name"])
def test_a_text_is_cut_between_words(case: dict[str, Any]) -> None:
    assert split(case["text"]) == case["pieces"]


@pytest.mark.parametrize("case", cases("scripts", "width"), ids=lambda case: case["text"])
def test_characters_fill_columns(case: dict[str, Any]) -> None:
    assert width(case["text"]) == case["columns"]


@pytest.mark.parametrize("case", cases("scripts", "words"), ids=lambda case: case["text"])
def test_words_have_no_punctuation_and_all_their_marks(case: dict[str, Any]) -> None:
    assert [word.group() for word in find_words(case["text"])] == case["words"]


@pytest.mark.parametrize("case", cases("scripts", "joined"), ids=lambda case: case["text"])
def test_texts_are_joined_as_their_scripts_are_written(case: dict[str, Any]) -> None:
    assert joined(case["texts"]) == case["text"]


@given(st.text())
def test_the_pieces_are_the_text_and_each_has_a_word(text: str) -> None:
    pieces = split(text)
    assert "".join(pieces) == (text if text.strip() else "")
    if len(pieces) > 1:
        assert all(any(map(str.isalnum, piece)) for piece in pieces)


@given(st.text(), st.text())
def test_joining_adds_at_most_a_space(left: str, right: str) -> None:
    assert joined([left, right]) in (left + right, f"{left} {right}")


def test_words_are_counted_in_scripts_without_spaces() -> None:
    assert lower_words("Hello, wörld's 你好!") == ["hello", "wörld's", "你", "好"]
    assert lower_words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
