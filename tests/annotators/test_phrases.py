"""`replace` and `profanity_filter`: whole words, in finals and partials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.annotators.phrases import ProfanityFilter
from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.annotations import Annotations
from streaming_asr.core.events import Event, Final, Partial
from streaming_asr.core.options import OptionError, SessionOptions
from tests.support.fakes import CAPABILITIES


def _sent(event: Partial | Final, *replacements: str) -> Event:
    annotators = make_annotators(SessionOptions(replace=replacements), CAPABILITIES)
    (sent,) = Annotations(0, annotators, recorded=False).passed([event], 0.0)
    return sent


def _replaced(text: str, *replacements: str) -> str:
    sent = _sent(Final(1, 0, text, "en", 0, 100, None, None), *replacements)
    assert isinstance(sent, Final)
    return sent.text


@pytest.mark.parametrize(
    ("text", "replacements", "replaced"),
    [
        ("I met Monica, then monica's aunt.", ["monica:Monika"], "I met Monika, then Monika's aunt."),
        ("Monicas", ["monica:Monika"], "Monicas"),
        ("a new  York-minute", ["new york:NY"], "a NY-minute"),
        ("new york city", ["new york:NY", "new york city:NYC"], "NYC"),
        ("well um yes", ["um:"], "well  yes"),
        ("at nine", ["nine:9:00"], "at 9:00"),
        ("我在北京大学", ["北京:上海"], "我在上海大学"),
        ("C++ and c", ["c++:Cpp"], "Cpp and c"),
    ],
)
def test_whole_words_are_replaced(text: str, replacements: list[str], replaced: str) -> None:
    assert _replaced(text, *replacements) == replaced


def test_a_phrase_that_is_not_complete_is_not_stable_yet() -> None:
    sent = _sent(Partial(1, 0, 1, "so in New", " York it", "en", 0, 100), "new york:NY")
    assert isinstance(sent, Partial)
    assert (sent.stable, sent.tentative) == ("so in", " NY it")


@given(st.lists(st.sampled_from(["new", "york", "city", "yorkshire", "in"]), max_size=6), st.integers(0, 30))
def test_stable_text_is_what_the_final_begins_with(words: list[str], cut: int) -> None:
    text = " ".join(words)
    rules = ["new york:NY", "york city:YC", "new york city in:X"]
    annotations = Annotations(0, make_annotators(SessionOptions(replace=tuple(rules)), CAPABILITIES), recorded=False)
    for event in annotations.passed([Partial(1, 0, 1, text[:cut], "", "en", 0, 100)], 0.0):
        assert isinstance(event, Partial)
        assert _replaced(text, *rules).startswith(event.stable)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nothing", "has no colon; write from:to"),
        (":x", "has no word before its colon"),
        ("--:x", "has no word before its colon"),
        (f"a:{'b' * 200}", "is longer than 200 characters"),
    ],
)
def test_a_replacement_that_can_t_be_made_is_an_error(value: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SessionOptions(replace=(value,))


def test_the_number_of_replacements_has_a_bound() -> None:
    with pytest.raises(OptionError, match="201 given; at most 200"):
        SessionOptions(replace=("a:b",) * 201)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("What the fuck, bullshit!", "What the ****, ********!"),
        ("Assume the class passes in Scunthorpe", "Assume the class passes in Scunthorpe"),
        ("god damn it", "*** **** it"),
    ],
)
def test_profane_words_are_masked(text: str, masked: str) -> None:
    annotators = make_annotators(SessionOptions(profanity_filter=True), CAPABILITIES)
    (sent,) = Annotations(0, annotators, recorded=False).passed([Final(1, 0, text, "en", 0, 1, None, None)], 0.0)
    assert isinstance(sent, Final)
    assert sent.text == masked


def test_a_profane_word_is_not_shown_while_it_is_spoken() -> None:
    for text in ("oh fu", "oh fuck", "oh fuckin"):
        partial = ProfanityFilter().partial(Partial(1, 0, 1, "", text, "en", 0, 100))
        assert partial.tentative == "oh"
    assert ProfanityFilter().partial(Partial(1, 0, 1, "", "oh fuck no", "en", 0, 100)).tentative == "oh **** no"


@pytest.mark.parametrize(("old", "text"), [("sınıf", "bu sinif"), ("ſo", "bu so"), ("İz", "bu iz"), ("ı", "bu İ")])
def test_letters_with_and_without_a_dot_are_found(old: str, text: str) -> None:
    """Regular expressions take some letters for the same that are different in lower case."""
    assert _replaced(text, f"{old}:new") in (text, "bu new")
