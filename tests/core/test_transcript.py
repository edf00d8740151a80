"""Successive hypotheses to stable and tentative text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core.recognizer import Hypothesis
from streaming_asr.core.transcript import PartialText, Transcript


def _said(text: str) -> Hypothesis:
    """A token for each word, with an id that depends on the word."""
    pieces = tuple(f" {word}" if index else word for index, word in enumerate(text.split()))
    return Hypothesis(tokens=tuple(sum(map(ord, piece.strip())) for piece in pieces), pieces=pieces)


def test_two_that_agree_make_text_stable_but_for_its_end() -> None:
    transcript = Transcript(rollback=2)
    assert transcript.update(_said("a b c d"))
    assert transcript.partial == PartialText("", "a b c d")
    assert transcript.update(_said("a b c d e f"))
    assert transcript.partial == PartialText("a b c d", " e f")
    assert transcript.prefix == _said("a b c d").tokens


def test_what_they_disagree_on_stays_tentative() -> None:
    transcript = Transcript(rollback=0)
    transcript.update(_said("I scream for"))
    transcript.update(_said("I scream four times"))
    assert transcript.partial == PartialText("I scream", " four times")


def test_the_same_again_is_no_new_revision() -> None:
    transcript = Transcript(rollback=5)
    assert transcript.update(_said("hello"))
    assert not transcript.update(_said("hello"))
    assert transcript.revision == 1


def test_a_contradiction_of_stable_text_is_passed_over() -> None:
    transcript = Transcript(rollback=0)
    transcript.update(_said("one two"))
    transcript.update(_said("one two"))
    assert not transcript.update(_said("won too"))
    assert transcript.partial == PartialText("one two", "")


def test_the_same_words_by_other_tokens_show_what_follows_them() -> None:
    transcript = Transcript(rollback=0)
    transcript.update(_said("one two"))
    transcript.update(_said("one two"))
    assert not transcript.update(_said("One, two! three"), withheld=1)
    assert transcript.update(_said("One, two! three."))
    assert transcript.partial == PartialText("one two", " three.")
    assert transcript.prefix == _said("one two").tokens
    assert not transcript.update(_said("Won two three"))
    assert transcript.update(_said("One two."))
    assert transcript.partial == PartialText("one two", "")


def test_of_an_unsure_text_only_what_two_in_a_row_have_is_shown() -> None:
    transcript = Transcript(rollback=5)
    assert not transcript.update(_said("Sam"), unsure=True)
    assert not transcript.update(_said("Simple rage now"), unsure=True)
    assert transcript.update(_said("simple rage, on"), unsure=True)
    assert transcript.partial == PartialText("", "simple rage,")


def test_nothing_that_is_shown_is_taken_back_for_an_unsure_text() -> None:
    transcript = Transcript(rollback=5)
    transcript.update(_said("the sands are white"))
    assert not transcript.update(_said("the hands are wide"), unsure=True)
    assert transcript.partial == PartialText("", "the sands are white")
    transcript.update(_said("the sand is white"))
    assert transcript.partial == PartialText("", "the sand is white")


def test_an_unsure_text_makes_nothing_stable() -> None:
    transcript = Transcript(rollback=0)
    transcript.update(_said("the sands"))
    transcript.update(_said("the sands are"), unsure=True)
    assert transcript.prefix == ()
    transcript.update(_said("the sands are"))
    assert transcript.partial == PartialText("the sands are", "")


def test_words_are_not_made_stable_by_halves() -> None:
    transcript = Transcript(rollback=0)
    half = Hypothesis(tokens=(1, 2), pieces=("won", "der"))
    transcript.update(half)
    transcript.update(Hypothesis(tokens=(1, 3), pieces=("won", "dered")))
    assert transcript.partial == PartialText("", "wondered")


def test_characters_of_several_tokens_are_not_cut() -> None:
    transcript = Transcript(rollback=0)
    transcript.update(Hypothesis(tokens=(1, 2, 3, 4), pieces=("", "字", "", "幕")))
    transcript.update(Hypothesis(tokens=(1, 2, 3, 5), pieces=("", "字", "", "典")))
    assert transcript.partial == PartialText("字", "典")


_PIECES = {n: piece for n, piece in enumerate([" a", " be", "ar", "'s", " 字", "字", "", ",", " 10"])}


@given(
    hypotheses=st.lists(st.lists(st.sampled_from(sorted(_PIECES)), max_size=8), max_size=12),
    rollback=st.integers(0, 5),
    forced=st.booleans(),
)
def test_stable_text_is_only_extended(hypotheses: list[list[int]], rollback: int, forced: bool) -> None:
    transcript = Transcript(rollback)
    stable, revision = "", 0
    for ids in hypotheses:
        tokens = (*transcript.prefix, *ids) if forced else tuple(ids)
        changed = transcript.update(Hypothesis(tokens=tokens, pieces=tuple(_PIECES[token] for token in tokens)))
        assert transcript.partial.stable.startswith(stable)
        assert transcript.revision == revision + changed
        stable, revision = transcript.partial.stable, transcript.revision


@pytest.mark.parametrize(
    ("pieces", "words", "shown"),
    [
        ((" it", " was", " a", " bub"), 1, " it was a"),
        ((" it", " was", " a", " bub"), 2, " it was"),
        ((" he", " did", "n't", " rea", "lly", "."), 1, " he didn't"),
        ((" ill", "-", "disposed", "!"), 1, " ill-disposed!"),
        ((" he", " did", "n't"), 1, " he"),
        ((" one",), 1, " one"),
        ((" one", " two"), 9, " one two"),
        (("你", "好", "吗"), 1, "你好"),
        ((), 1, ""),
    ],
)
def test_the_last_words_are_withheld_unless_there_are_no_others(
    pieces: tuple[str, ...], words: int, shown: str
) -> None:
    transcript = Transcript(rollback=5)
    transcript.update(Hypothesis(tokens=tuple(range(len(pieces))), pieces=pieces), words)
    assert transcript.partial.stable + transcript.partial.tentative == shown


def test_stable_text_is_never_withheld() -> None:
    transcript = Transcript(rollback=0)
    for _ in range(2):
        transcript.update(Hypothesis(tokens=(1, 2), pieces=(" one", " two")), 1)
    assert transcript.partial.stable == " one two"


@pytest.mark.parametrize(
    ("pieces", "stable"),
    [
        ((" при", "вет", " мир"), ["", " привет", " привет мир"]),
        (("안녕", "하세요", " 저는"), ["", "안녕하세요", "안녕하세요 저는"]),
        ((" ca", "fé", " noir"), ["", " café", " café noir"]),
        ((" l", "’", "été", " est"), ["", "", " l’été", " l’été est"]),
        ((" ill", "-", "disposed", " as"), ["", "", " ill-disposed", " ill-disposed as"]),
        ((" e", "\u0301", "t", " la"), ["", "", " e\u0301t", " e\u0301t la"]),
        (("你", "好", "Pyth", "on"), ["你", "你好", "你好", "你好Python"]),
    ],
)
def test_words_of_any_script_are_not_made_stable_by_halves(pieces: tuple[str, ...], stable: list[str]) -> None:
    for count, expected in enumerate(stable, 1):
        transcript = Transcript(rollback=len(pieces) - count)
        for _ in range(2):
            transcript.update(Hypothesis(tokens=tuple(range(len(pieces))), pieces=pieces))
        assert transcript.partial.stable == expected


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [((" при", "вет", " ми", "р"), " привет"), (("저는", " 학", "생"), "저는"), (("你", "好"), "你")],
)
def test_a_withheld_word_is_a_whole_word_in_any_script(pieces: tuple[str, ...], shown: str) -> None:
    transcript = Transcript()
    transcript.update(Hypothesis(tokens=tuple(range(len(pieces))), pieces=pieces), withheld=1)
    assert transcript.partial.tentative == shown
