"""Loops of a decoder, distinguished from speech that repeats itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.recognizers.common.repetition import LONGEST_PERIOD, collapse, find_loop


def ids(text: str) -> list[int]:
    """A token for each word."""
    words = text.split()
    return [words.index(word) for word in words]


def collapsed(text: str) -> str:
    words = text.split()
    return " ".join(words[n] for n in collapse(ids(text)))


LOOPS = {
    "Mr. John Dashwood had that that that that that that that that that that that that": "Mr. John Dashwood had that",
    "And so my fellow Americans asked not to ask not to ask not to ask not to ask not to ask": (
        "And so my fellow Americans asked not to ask"
    ),
    "He was not an ill sposed young man, and ill sposed young man, and ill sposed young man, and ill sposed young": (
        "He was not an ill sposed young man, and"
    ),
    "He said: "
    + "Unless to be rather cold and rather selfish. " * 3: "He said: Unless to be rather cold and rather selfish.",
}

SPEECH = [
    "",
    "Yes.",
    "No, no, no!",
    "very very very very good",
    "ask not what your country can do for you ask what you can do for your country",
    "Row, row, row your boat gently down the stream, merrily, merrily, merrily, merrily, life is but a dream.",
    "We shall fight on the beaches, we shall fight on the landing grounds, we shall fight in the fields",
    "Help me, help me.",
]


@pytest.mark.parametrize("text", LOOPS)
def test_loops_that_whisper_made_are_found_and_said_once(text: str) -> None:
    assert find_loop(ids(text)) is not None
    assert collapsed(text) == LOOPS[text]


@pytest.mark.parametrize("text", SPEECH)
def test_speech_is_no_loop(text: str) -> None:
    assert find_loop(ids(text)) is None
    assert collapsed(text) == text


def test_what_follows_a_loop_stays() -> None:
    assert collapsed("a " + "b c d e " * 4 + "f g") == "a b c d e f g"


def test_two_loops_are_both_found() -> None:
    assert collapsed("a " * 15 + "x y z q " * 4) == "a x y z q"


def test_the_shortest_phrase_of_a_loop_is_found() -> None:
    loop = find_loop([1, 2] * 10)
    assert loop is not None
    assert (loop.start, loop.period, loop.end, loop.repeats) == (0, 2, 20, 10)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_collapsing_leaves_no_loop_and_keeps_the_order(tokens: list[int]) -> None:
    kept = collapse(tokens)
    assert kept == sorted(set(kept))
    assert find_loop([tokens[n] for n in kept]) is None


@given(
    st.lists(st.integers(0, 9), max_size=5),
    st.lists(st.integers(10, 99), min_size=4, max_size=LONGEST_PERIOD, unique=True),
)
def test_a_phrase_said_three_times_is_a_loop_behind_any_start(start: list[int], phrase: list[int]) -> None:
    assert collapse(start + 3 * phrase) == list(range(len(start) + len(phrase)))
