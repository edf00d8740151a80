"""Words joined from tokens with times: punctuation, scripts without spaces, pauses."""

from __future__ import annotations

import pytest

from streaming_asr.core.recognizer import Word
from streaming_asr.recognizers.whisper.word_times import token_starts, words_of


def words(pieces: list[str], starts: list[int] | None = None, audio_ms: int = 60_000) -> list[Word]:
    starts = starts or list(range(0, 10 * len(pieces) + 1, 10))
    return list(words_of(pieces, starts, [0.5] * len(pieces), audio_ms=audio_ms))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["He", "llo", ",", " world", "!"], ["Hello,", "world!"]),
        (["“", "Yes", ",”", " she", " said", "."], ["“Yes,”", "she", "said."]),
        (["He", " said", ' "', "no", '".'], ["He", "said", '"no".']),
        (["(", "laughs", ")", " well", "-", "known"], ["(laughs)", "well-known"]),
        (["don", "'t", " go"], ["don't", "go"]),
        (["甚", "至", "出", "现", "。"], ["甚", "至", "出", "现。"]),
        (["甚至", "", "", "滞"], ["甚至", "滞"]),
        (["¿", "Qué", "?"], ["¿Qué?"]),
        ([" Com", "ment", " ça", " va", " ?"], ["Comment", "ça", "va ?"]),
        (["안", "녕하세요", ".", " 저", "는"], ["안녕하세요.", "저는"]),
        (["我", "用", " Py", "thon", " 写", "。"], ["我", "用", "Python", "写。"]),
        (["ส", "ว", "ั", "ส", "ด", "ี"], ["ส", "วั", "ส", "ดี"]),
        ([".", ".", "."], ["..."]),
        ([" "], []),
        ([], []),
    ],
)
def test_tokens_are_joined_to_words(pieces: list[str], expected: list[str]) -> None:
    assert [word.text for word in words(pieces)] == expected


def test_a_word_lasts_until_the_next_begins() -> None:
    first, second = words(["He", "llo", " you"], starts=[5, 10, 20, 30])
    assert (first.start_ms, first.end_ms) == (100, 400)
    assert (second.start_ms, second.end_ms) == (400, 600)


def test_no_word_ends_behind_the_audio() -> None:
    last = words(["He", " llo"], starts=[5, 10], audio_ms=350)[-1]
    assert (last.start_ms, last.end_ms) == (200, 350)


def test_a_word_before_a_pause_does_not_last_through_it() -> None:
    found = words(["One", " two", ".", " Three", " four"], starts=[0, 10, 20, 200, 210, 220])
    assert [word.text for word in found] == ["One", "two.", "Three", "four"]
    assert found[1].end_ms < 1000
    assert found[2].start_ms == 4000


def test_the_first_frame_of_each_token_is_its_start() -> None:
    assert token_starts([(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 4)]) == [0, 1, 4]
    assert token_starts([]) == []
