"""A text is edited together with its words, their times and its tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.annotators.edits import Edit, TextAnnotator, apply, edit_final, edit_tokens, without_overlap
from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.events import Event, Final, Partial
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import Hypothesis, TimesFrom, Word
from streaming_asr.core.session import Session
from tests.support.fakes import CAPABILITIES, FakeDetector, check_invariants, speech


def _final(text: str, each_ms: int = 100) -> Final:
    words = tuple(Word(word, n * each_ms, (n + 1) * each_ms, 0.5) for n, word in enumerate(text.split()))
    logprobs = tuple((f" {word}", -1.0) for word in text.split())
    return Final(1, 0, text, "en", 0, each_ms * len(words), 0.5, words, logprobs)


def _edit(final: Final, **changes: str) -> Final:
    found = [Edit(final.text.index(old.replace("_", " ")), 0, new) for old, new in changes.items()]
    edits = [replace(edit, end=edit.start + len(old)) for edit, old in zip(found, changes, strict=True)]
    return edit_final(final, without_overlap(edits))


def test_words_that_become_one_have_their_time_together() -> None:
    final = _edit(_final("it costs twenty three dollars today"), twenty_three_dollars="$23")
    assert final.text == "it costs $23 today"
    assert final.words is not None
    assert [(word.text, word.start_ms, word.end_ms) for word in final.words] == [
        ("it", 0, 100),
        ("costs", 100, 200),
        ("$23", 200, 500),
        ("today", 500, 600),
    ]
    assert final.words[2].times_from is TimesFrom.RECOGNIZER
    assert final.logprobs == ((" it", -1.0), (" costs", -1.0), (" $23", -3.0), (" today", -1.0))


def test_a_word_that_becomes_several_has_its_time_divided() -> None:
    final = _edit(_final("say gonna now"), gonna="going to")
    assert final.words is not None
    assert [(word.text, word.start_ms, word.end_ms) for word in final.words] == [
        ("say", 0, 100),
        ("going", 100, 171),
        ("to", 171, 200),
        ("now", 200, 300),
    ]
    assert final.words[1].times_from is TimesFrom.ESTIMATE


def test_punctuation_stays_with_its_word() -> None:
    final = _edit(_final("in twenty ten, then"), twenty_ten="2010")
    assert final.text == "in 2010, then"
    assert final.words is not None
    assert [word.text for word in final.words] == ["in", "2010,", "then"]


def test_a_word_that_is_removed_has_no_time() -> None:
    final = _edit(_final("well er yes"), er_="")
    assert final.words is not None
    assert [word.text for word in final.words] == ["well", "yes"]


def test_words_that_do_not_make_the_text_are_dropped_rather_than_guessed() -> None:
    final = replace(_final("one two"), text="one two three")
    edited = edit_final(final, [Edit(0, 3, "1")])
    assert (edited.text, edited.words, edited.logprobs) == ("1 two three", None, None)


@given(st.lists(st.sampled_from(["ab", "c", "def", "，", "漢"]), max_size=8), st.data())
def test_words_and_tokens_always_make_the_edited_text(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    edits = without_overlap(
        Edit(start, min(len(text), start + length), new)
        for start, length, new in data.draw(
            st.lists(
                st.tuples(st.integers(0, max(0, len(text) - 1)), st.integers(1, 5), st.sampled_from(["", "X", "Y Z"]))
            )
        )
        if start < len(text) and text[start] != " "
    )
    final = edit_final(_final(text), edits)
    assert final.words is not None or not words
    joined = "".join(word.text for word in final.words or ())
    assert joined == "".join(final.text.split())
    tokens = edit_tokens(tuple((f" {word}", -1.0) for word in words), text, edits, len(text))
    assert tokens is not None
    assert "".join(token for token, _ in tokens).split() == apply(text, edits).split()
    times = [time for word in final.words or () for time in (word.start_ms, word.end_ms)]
    assert times == sorted(times)


class AbToX(TextAnnotator):
    """Writes X for `ab` wherever it is."""

    name = "x"

    def edits(self, text: str, language: str | None) -> list[Edit]:
        return [Edit(n, n + 2, "X") for n in range(len(text)) if text.startswith("ab", n)]

    def open_from(self, text: str, language: str | None) -> int:
        return len(text) - text.endswith("a")


def test_stable_text_is_withheld_while_a_rule_could_still_match_it() -> None:
    first = AbToX().partial(Partial(1, 0, 1, "ab ca", "b", "en", 0, 100, logprobs=(("ab", -1.0), (" ca", -2.0))))
    assert (first.stable, first.tentative) == ("X c", "X")
    assert first.logprobs == (("X", -1.0),)
    second = AbToX().partial(Partial(1, 0, 2, "ab cab", " d", "en", 0, 100))
    assert (second.stable, second.tentative) == ("X cX", " d")


@given(st.text("ab ", max_size=12), st.integers(0, 12))
def test_stable_text_is_never_taken_back(text: str, cut: int) -> None:
    shorter = AbToX().partial(Partial(1, 0, 1, text[:cut], text[cut:], "en", 0, 100))
    longer = AbToX().partial(Partial(1, 0, 2, text, "", "en", 0, 100))
    assert longer.stable.startswith(shorter.stable)
    assert (shorter.stable + shorter.tentative).rstrip() == text.replace("ab", "X").rstrip()


@pytest.mark.parametrize("changes", [{"replace": ("w1:b",)}, {"redact": ("numbers",)}])
def test_options_that_change_in_mid_speech_take_no_stable_text_back(changes: dict[str, tuple[str, ...]]) -> None:
    options = SessionOptions(encoding=Encoding.F32LE, withheld_words=0)
    session = Session("s", options, CAPABILITIES, lambda _: FakeDetector(), make_annotators=make_annotators)
    events: list[Event] = []
    words = 0
    for step in range(14):
        if step == 9:
            events += session.configure(0.0, **changes)
        events += session.receive(speech(0.6).tobytes(), 0.0)
        while (demand := session.demand()) is not None:
            words += 1
            job = demand.take(words, 0.0)
            assert job is not None
            pieces = tuple(f" w{n}" for n in range(1, words + 1))
            events += session.complete(words, Hypothesis(tuple(range(words)), pieces, "en", 1.0), 0.0)
    check_invariants(events)
    assert any(isinstance(event, Partial) and event.stable for event in events)
