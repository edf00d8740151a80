"""How errors are counted and shown: what is the same word, whose error it is, what was lost or said twice."""

from __future__ import annotations

import pytest

from benchmarks.accuracy.long_session import doubled_passages, lost_passages
from benchmarks.accuracy.side_by_side import Column, columns_of, excerpts
from benchmarks.accuracy.word_errors import Errors, count_errors, difference_interval, interval, pooled
from benchmarks.common.normalization import measure_of, plain_words, units


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("Mister Quilter paid two dollars, didn't he?", "mr. quilter paid $2 did not he"),
        ("so that... he", "so that he"),
        ("THE COLOUR OF EIGHTEEN O THREE", "The color of 1803."),
    ],
)
def test_english_spellings_of_the_same_words_are_the_same(one: str, same: str) -> None:
    assert units(one, "en") == units(same, "en")


def test_other_languages_keep_their_words() -> None:
    assert units("Über die Straße, 2 Mal!", "de") == ["über", "die", "straße", "2", "mal"]
    assert measure_of("de") == "WER"


@pytest.mark.parametrize("language", ["zh", "ja", "yue"])
def test_languages_without_spaces_are_compared_by_character(language: str) -> None:
    assert measure_of(language) == "CER"
    assert units("甚至,出现 交易２次。", language) == list("甚至出现交易2次")
    errors = count_errors(units("甚至出现交易", language), units("甚至出線交易", language))
    assert (errors.reference, errors.substituted, errors.rate) == (6, 1, pytest.approx(1 / 6))


def test_plain_words_differ_only_by_more_than_case_and_punctuation() -> None:
    assert plain_words("He didn't, MISTER Two!") == ("he", "didn't", "mister", "two")


def test_errors_are_counted_by_kind_and_pooled_by_words() -> None:
    one = count_errors(["a", "b", "c", "d"], ["a", "x", "c", "d", "e"])
    other = count_errors(["a", "b"], [])
    assert one == Errors(reference=4, substituted=1, inserted=1)
    assert other == Errors(reference=2, deleted=2)
    assert pooled([one, other]) == Errors(6, 1, 2, 1)
    assert pooled([one, other]).rate == pytest.approx(4 / 6)
    assert count_errors([], ["a"]) == Errors(inserted=1)
    assert Errors(inserted=1).rate == 0


def test_the_interval_holds_the_rate_and_shrinks_with_more_clips() -> None:
    few = [Errors(10, substituted=n % 3) for n in range(9)]
    many = few * 25
    for clips in (few, many):
        low, high = interval(clips) or (0, 0)
        assert low < pooled(clips).rate < high
    assert _width(many) < _width(few) / 3
    assert interval(few) == interval(few)
    assert interval(few[:1]) is None


def test_the_difference_of_two_ways_is_judged_clip_by_clip() -> None:
    """Each clip alone decides little, but one way is never better than the other."""
    one = [Errors(20, substituted=n % 7) for n in range(40)]
    worse = [Errors(20, substituted=n % 7 + 1) for n in range(40)]
    assert difference_interval(worse, one) == (pytest.approx(0.05), pytest.approx(0.05))


def _width(clips: list[Errors]) -> float:
    low, high = interval(clips) or (0, 0)
    return high - low


def test_words_stand_under_those_that_they_were_heard_for() -> None:
    columns = columns_of(
        ["the", "cat", "sat", "on", "it"], ["the", "cat", "sat", "it"], ["oh", "the", "hat", "sat", "right", "on", "it"]
    )
    assert columns == [
        Column("", ("", "oh")),
        Column("the", ("the", "the")),
        Column("cat", ("cat", "hat")),
        Column("sat", ("sat", "sat")),
        Column("", ("", "right")),
        Column("on", ("", "on")),
        Column("it", ("it", "it")),
    ]
    assert [column.right for column in columns] == [False, True, False, True, False, False, True]


def test_what_two_ways_inserted_at_one_place_shares_columns() -> None:
    columns = columns_of(["a", "b"], ["a", "x", "y", "b"], ["a", "z", "b"])
    assert columns[1:3] == [Column("", ("x", "z")), Column("", ("y", ""))]


def test_nothing_said_and_nothing_heard_can_be_aligned() -> None:
    assert columns_of([], ["a"], []) == [Column("", ("a", ""))]
    assert columns_of(["a"], [], ["a"]) == [Column("a", ("", "a"))]


def test_only_the_neighbourhood_of_errors_is_shown() -> None:
    said = [f"w{n}" for n in range(40)]
    recognized = [*said[:10], "x", *said[11:30], *said[31:]]
    parts = list(excerpts(columns_of(said, recognized), around=2))
    assert [[column.said for column in part] for part in parts] == [
        ["w8", "w9", "w10", "w11", "w12"],
        ["w28", "w29", "w30", "w31", "w32"],
    ]
    assert list(excerpts(columns_of(said, said))) == []


def test_a_lost_passage_is_told_from_slips() -> None:
    said = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    recognized = ["one", "three", "four", "five", "ten"]
    (lost,) = lost_passages(columns_of(said, recognized))
    assert (lost.text, lost.place) == ("six seven eight nine", 5)
    assert [one.text for one in lost_passages(columns_of(said, said[:5]))] == ["six seven eight nine ten"]


def test_a_doubled_passage_is_told_from_insertions() -> None:
    said = ["one", "two", "three", "four", "five", "six"]
    (doubled,) = doubled_passages(
        columns_of(said, ["one", "two", "three", "four", "two", "three", "four", "five", "six"])
    )
    assert sorted(doubled.text.split()) == ["four", "three", "two"]
    assert doubled_passages(columns_of(said, ["one", "two", "three", "and", "so", "on", "four", "five", "six"])) == []
    repeated = ["very", "very", "very", "very", "good"]
    assert doubled_passages(columns_of(repeated, repeated)) == []
