"""Texts cut into the units that a forced aligner knows, and words made of them again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.recognizers.vllm.models.align_units import group_words, split_units


def units(text: str, language: str = "en") -> list[str]:
    return [unit.text for unit in split_units(text, language)]


def words(text: str, language: str = "en") -> list[str]:
    return [word for word, _, _ in group_words(text, split_units(text, language))]


@pytest.mark.parametrize(
    ("language", "text", "cut", "joined"),
    [
        ("en", "“Don't,” he said — 2!", ["Don't", "he", "said", "2"], ["“Don't,”", "he", "said —", "2!"]),
        ("en", "state-of-the-art at 3.5 %", ["stateoftheart", "at", "35"], ["state-of-the-art", "at", "3.5 %"]),
        ("zh", "我用iPhone，好吗？", ["我", "用", "iPhone", "好", "吗"], ["我", "用", "iPhone，", "好", "吗？"]),
        ("ko", "네, 안녕하세요.", ["네", "안녕", "하세요"], ["네,", "안녕하세요."]),
        ("fr", "« Où ? » dit-il", ["Où", "ditil"], ["« Où ? »", "dit-il"]),
        ("en", "...", [], []),
        ("en", "", [], []),
    ],
)
def test_texts_are_cut_as_the_model_knows_them_and_words_keep_their_punctuation(
    language: str, text: str, cut: list[str], joined: list[str]
) -> None:
    assert units(text, language) == cut
    assert words(text, language) == joined


def test_japanese_is_cut_by_its_dictionary() -> None:
    text = "東京は、ＡＢＣです。"
    cut = split_units(text, "ja", lambda _: ["東京", "は", "、", "ABC", "です", "。"])
    assert [unit.text for unit in cut] == ["東京", "は", "ABC", "です"]
    assert group_words(text, cut) == [("東京", 0, 1), ("は、", 1, 2), ("ＡＢＣ", 2, 3), ("です。", 3, 4)]


def test_morphemes_of_another_text_are_refused() -> None:
    for words in (["大阪"], ["東京", "都"]):
        with pytest.raises(ValueError, match="in the text"):
            split_units("東京", "ja", lambda _, words=words: words)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["en", "zh", "ko"]))
def test_each_unit_is_in_one_word_and_no_text_is_lost(text: str, language: str) -> None:
    cut = split_units(text, language)
    assert all(text[unit.start] == unit.text[0] and text[unit.end - 1] == unit.text[-1] for unit in cut)
    grouped = group_words(text, cut)
    assert [n for _, first, last in grouped for n in range(first, last)] == list(range(len(cut)))
    if cut:
        assert "".join("".join(word for word, _, _ in grouped).split()) == "".join(text.split())
