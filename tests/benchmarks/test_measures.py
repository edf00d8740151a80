"""Stability and word times, from sessions whose answers are known, and against a second way of computing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import word_times
from benchmarks.common.measures.emission import first_shown, lagging, word_delays
from benchmarks.common.measures.readings import Reading, readings
from benchmarks.common.measures.stability import pooled, stability
from benchmarks.common.normalization import plain_words
from benchmarks.common.session_log import Sent, Shown
from benchmarks.common.speech import Clip
from benchmarks.common.word_times import placed, timed_words

SAID = [("one", 0.0, 0.5), ("two", 0.5, 1.0), ("three", 1.0, 1.5), ("four", 1.5, 2.0)]


def _read(*texts: tuple[float, str]) -> list[Reading]:
    """As if all were partial."""
    return readings([Shown(at_s, "", text) for at_s, text in texts])


def test_words_are_compared_without_case_and_punctuation_and_chinese_by_character() -> None:
    assert plain_words("Well, I don't know -- 'tis 3.5!") == ("well", "i", "don't", "know", "tis", "3", "5")
    assert plain_words("你好, world再见") == ("你", "好", "world", "再", "见")
    assert plain_words("… !") == ()
    assert len(_read((1, "One"), (2, "one,"), (3, "One. Two"))) == 2


def test_a_text_that_only_grows_is_stable() -> None:
    steady = stability(_read((1, "one"), (2, "one two"), (3, "one two three")))
    assert (steady.words, steady.erased, steady.unstable) == (3, 0, 0)
    assert (steady.erasure, steady.upwr) == (0, 0)


def test_what_was_taken_back_is_counted() -> None:
    """A revision deletes all from the first word that differs; unstable is what has another word in its place."""
    steady = stability(_read((1, "a b c d"), (2, "a x c d"), (3, "a x c"), (4, "a x c d e")))
    assert (steady.words, steady.erased, steady.unstable) == (5, 3 + 1, 1 + 1)
    both = pooled([steady, stability(_read((1, "one"), (2, "won")))])
    assert (both.words, both.erased, both.erasure) == (6, 5, 5 / 6)


def test_without_text_there_is_no_figure() -> None:
    assert stability([]).erasure is None
    assert word_delays([], SAID) == []
    assert first_shown([]) == []


def test_a_word_is_shown_when_it_is_first_read_in_its_place() -> None:
    read = _read(
        (0.8, "one"), (1.4, "one too"), (1.9, "one three"), (2.2, "one two three"), (2.5, "one two three four")
    )
    assert first_shown(read) == [0.8, 2.2, 1.9, 2.5]
    assert word_delays(read, SAID) == pytest.approx([0.3, 1.2, 0.4, 0.5])


def test_words_that_are_wrong_in_the_end_have_no_delay() -> None:
    assert word_delays(_read((3.0, "won two tree four")), SAID) == pytest.approx([2.0, 1.0])


def test_lagging_of_who_keeps_step_is_nothing_and_of_who_waits_for_the_end_is_all_of_it() -> None:
    """Four words in two seconds: a word each half second is in step."""
    in_step = _read((0.5, "one"), (1.0, "one two"), (1.5, "one two three"), (2.0, "one two three four"))
    assert lagging([replace_time(reading, -0.5) for reading in in_step], 4, 2.0) == 0
    assert lagging(in_step, 4, 2.0) == pytest.approx(0.5)
    assert lagging(_read((3.0, "one two three four")), 4, 2.0) == 3.0
    sent = [Sent(n / 10, n / 10) for n in range(1, 21)]
    assert lagging(_read((3.0, "one two three four")), 4, 2.0, sent) == 2.0
    # A text with more words than were said is compared with the faster pace, and gains nothing by it.
    assert lagging(_read((2.0, "a b c d e f g h")), 4, 2.0) == 2.0


def replace_time(reading: Reading, by_s: float) -> Reading:
    return reading._replace(at_s=reading.at_s + by_s)


def test_words_are_placed_at_the_times_of_those_recognized() -> None:
    recognized = [(" one", 0.0, 0.5), (" too", 0.6, 0.9), (" three.", 1.0, 1.5)]
    assert placed("One two three four", recognized) == (("one", 0.0, 0.5), ("two", 0.5, 1.0), ("three", 1.0, 1.5))
    assert placed("nothing fits", recognized) == ()


# The same by other means: whole texts compared afresh, without a step taken from the one before.


def _erased_by_hand(texts: Sequence[Sequence[str]]) -> int:
    erased = 0
    for before, after in pairwise(texts):
        keep = max(n for n in range(len(before) + 1) if list(before[:n]) == list(after[:n]))
        erased += len(before) - keep
    return erased


_TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=8)


@given(_TEXTS)
def test_erasure_agrees_with_another_way_of_computing_it(texts: list[list[str]]) -> None:
    read = _read(*((float(at_s), " ".join(text)) for at_s, text in enumerate(texts)))
    assert stability(read).erased == _erased_by_hand([[], *texts])
    assert stability(read).unstable <= stability(read).erased


@given(_TEXTS)
def test_every_word_of_the_last_text_was_shown_once_and_not_before_any_reading_had_it(texts: list[list[str]]) -> None:
    read = _read(*((float(at_s), " ".join(text)) for at_s, text in enumerate(texts)))
    shown = first_shown(read)
    assert len(shown) == (len(read[-1].words) if read else 0)
    for word, at_s in zip(read[-1].words if read else (), shown, strict=True):
        assert any(word in reading.words for reading in read if reading.at_s == at_s)
    if read:
        begins_alike = read[0].words[:1] == read[-1].words[:1]
        assert not begins_alike or shown[0] == read[0].at_s


@given(_TEXTS, st.floats(0, 10))
def test_who_is_later_is_measured_as_so_much_later(texts: list[list[str]], by_s: float) -> None:
    texts[-1] = texts[-1] or ["a"]
    shown = [Shown(float(at_s), "", " ".join(text)) for at_s, text in enumerate(texts)]
    late = [replace(each, at_s=each.at_s + by_s) for each in shown]
    said = [(word, 0.0, 1.0) for word in texts[-1]]
    early = word_delays(readings(shown), said)
    assert word_delays(readings(late), said) == pytest.approx([delay + by_s for delay in early])
    # Of speech that lasts longer, so that all words count: those that come after its end do not.
    assert lagging(readings(late), len(said), 100.0) == pytest.approx(lagging(readings(shown), len(said), 100.0) + by_s)


def test_times_of_words_are_found_once_and_of_many_clips_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def recognize(model: object, clip: Clip) -> list[tuple[str, float, float]]:
        asked.append(clip.id)
        return [("yes", 0.1, 0.4)]

    monkeypatch.setattr(word_times, "_CACHE", tmp_path / "cache")
    monkeypatch.setattr(word_times, "_whisper", lambda: None)
    monkeypatch.setattr(word_times, "_recognized", recognize)
    monkeypatch.setattr(word_times, "MOST_KEPT", 3)
    clips = [Clip(str(number), tmp_path / str(number), "en", "Yes.") for number in range(5)]
    for clip in clips:
        clip.path.write_text(clip.id)
        assert timed_words([clip]) == {clip.id: (("yes", 0.1, 0.4),)}
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert set(timed_words(clips[2:])) == {"2", "3", "4"}
    assert asked == ["0", "1", "2", "3", "4"]
