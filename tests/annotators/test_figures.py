"""`itn=true`: figures come out as people write them, with the times of the words that they stand for."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from streaming_asr.annotators import figures
from streaming_asr.annotators.edits import apply
from streaming_asr.annotators.figures import LANGUAGES, find_edits
from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.annotations import Annotations
from streaming_asr.core.annotator import Blocking
from streaming_asr.core.events import Final
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import Word
from tests.support.fakes import CAPABILITIES


def _written(text: str, language: str) -> str:
    return apply(text, find_edits(text, LANGUAGES[language]))


def _annotated(final: Final, **options: Any) -> Final:
    annotators = make_annotators(SessionOptions(itn=True, **options), CAPABILITIES)
    annotations = Annotations(0, annotators, recorded=False)
    events = annotations.passed([final], 0.0)
    for inquiry in annotations.take_inquiries():
        assert isinstance(inquiry.question, Blocking)
        events += annotations.answered(inquiry, inquiry.question.answer(), 0.0)
    (written,) = events
    assert isinstance(written, Final)
    return written


ENGLISH = (
    "Call four one five, five five five, two six seven one: it costs twenty-three dollars and fifty cents on "
    "July fourth, twenty twenty-four, with a ten percent discount."
)
MANDARIN = "电话是一三八零零一三八零零零，价格是二十三块五，二零二四年七月四日，百分之十五的折扣。"


def test_a_telephone_number_a_price_a_date_and_a_percentage_in_english() -> None:
    words = tuple(Word(word, n * 100, (n + 1) * 100) for n, word in enumerate(ENGLISH.split()))
    written = _annotated(Final(1, 0, ENGLISH, "en", 0, 3000, 0.9, words))
    assert written.text == "Call 415-555-2671: it costs $23.50 on July 4, 2024, with a 10% discount."
    assert written.words is not None
    assert [word.text for word in written.words] == written.text.split()
    times = {word.text: (word.start_ms, word.end_ms) for word in written.words}
    assert times["415-555-2671:"] == (100, 1100)
    assert times["$23.50"] == (1300, 1800)
    assert (times["July"][0], times["2024,"][1]) == (1900, 2300)
    assert times["10%"] == (2500, 2700)
    assert times["discount."] == (2700, 2800)


def test_a_telephone_number_a_price_a_date_and_a_percentage_in_mandarin() -> None:
    words = tuple(Word(char, n * 100, (n + 1) * 100) for n, char in enumerate(MANDARIN) if char.isalnum())
    written = _annotated(Final(1, 0, MANDARIN, "zh", 0, 10_000, 0.9, words))
    assert written.text == "电话是13800138000，价格是23.5元，2024年7月4日，15%的折扣。"
    assert written.words is not None
    assert "".join(word.text for word in written.words) == "电话是13800138000价格是23.5元2024年7月4日15%的折扣"
    starts = {word.text: word.start_ms for word in written.words}
    assert starts["13800138000"] == MANDARIN.index("一三八") * 100
    assert starts["15%"] == MANDARIN.index("百分") * 100


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("Two hundred and thirty-four thousand people", "234,000 people"),
        ("one hundred and five", "105"),
        ("one eight hundred five five five one two three four.", "1-800-555-1234."),
        ("at five thirty PM, not five o'clock", "at 5:30 p.m., not 5 o'clock"),
        ("one thousand two hundred dollars", "$1,200"),
        ("two point five kilometers", "2.5 kilometers"),
        (
            'It ends at half past five p.m. He said "ten percent" (or so).',
            'It ends at 5:30 p.m. He said "10%" (or so).',
        ),
        ("seventy-five cents or one dollar and one cent", "$0.75 or $1.01"),
        ("fifty euros", "€50"),
        ("from twelve to seventeen or nineteen each", "from 12 to 17 or 19 each"),
        ("ten or fifteen thousand pounds", "ten or fifteen thousand pounds"),
        ("two hundred square meters every eight hours", "200 square meters every eight hours"),
        ("six feet two inches, ninety minutes", "six feet two inches, 90 minutes"),
        ("nine a.m., a quarter to three", "9 a.m., 2:45"),
        ("plus four four two oh seven nine four six oh nine five eight", "+442079460958"),
        ("plus one four one five five five five two six seven one", "+1 415-555-2671"),
        ("one two three, four five, six seven eight nine", "123-45-6789"),
        ("four one five, five five five, two six, seven one", "415-555-2671"),
        ("flight U A two three four", "flight UA234"),
        ("version three point one point four", "version 3.1.4"),
        # Words as people write them.
        ("one real passion", "one real passion"),
        ("Wait a second, no one came first.", "Wait a second, no one came first."),
        ("Mister Brown works twenty-four seven", "Mister Brown works twenty-four seven"),
        ("john dot smith at gmail dot com", "john dot smith at gmail dot com"),
    ],
)
def test_english(spoken: str, written: str) -> None:
    assert _written(spoken, "en") == written


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("下午三点十五分", "下午3点15分"),
        ("三百二十元", "320元"),
        ("九百九十九块九毛九", "999.99元"),
        ("一百二十三万人", "123万人"),
        ("两千零八年八月八号", "2008年8月8号"),
        ("一百零五个", "105个"),
        ("下午五点四十五分三十秒", "下午5点45分30秒"),
        ("十二点四十，五点零五分，早上八点一刻", "12点40，5点05分，早上8点1刻"),
        ("三点一四公里，三点五万欧元", "3.14公里，3.5万欧元"),
        ("十分感谢十几个人", "十分感谢十几个人"),
        ("我有一个问题，三五个人一起去", "我有一个问题，三五个人一起去"),
    ],
)
def test_mandarin(spoken: str, written: str) -> None:
    assert _written(spoken, "zh") == written


def test_japanese() -> None:
    assert _written("二千二十四年七月四日に、五千円です。", "ja") == "2024年7月4日に、5000円です。"


@pytest.mark.parametrize("language", ["de", None])
def test_other_languages_stay_as_they_are(language: str | None) -> None:
    final = Final(1, 0, "twenty-three dollars", language, 0, 100, 0.9, None)
    assert _annotated(final) == final


def test_keywords_stay_as_they_are() -> None:
    final = Final(1, 0, "Forever Twenty-One has twenty-one shops", "en", 0, 100, 0.9, None)
    assert _annotated(final, keywords=("Forever twenty-one",)).text == "Forever Twenty-One has 21 shops"


def test_a_recognizer_that_writes_figures_is_left_alone() -> None:
    assert make_annotators(SessionOptions(itn=True), replace(CAPABILITIES, writes_figures=True)) == []


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LIBRARY", "no_such_library")
    with pytest.raises(OptionError, match=r"itn: needs no_such_library.*pip install 'streaming-asr\[itn\]'"):
        make_annotators(SessionOptions(itn=True), CAPABILITIES)


def test_several_threads_may_write_at_once() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: _written("twenty-three dollars", "en"), range(20))) == {"$23"}


def test_a_server_without_it_does_not_load_the_library() -> None:
    code = "import sys, streaming_asr.server.serve, streaming_asr.annotators.registry; print('wetext' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_a_text_without_a_number_does_not_wait() -> None:
    annotations = Annotations(0, make_annotators(SessionOptions(itn=True), CAPABILITIES), recorded=False)
    final = Final(1, 0, "To be, or not to be.", "en", 0, 100, 0.9, None)
    assert annotations.passed([final], 0.0) == [final]


def test_a_long_clause_goes_to_the_grammar_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds Python's lock for longer than the event loop can wait: for seconds, of a thousand digits."""
    lengths = []
    find = figures.Grammar.find

    def watched(self: figures.Grammar, text: str, offset: int = 0) -> list[figures.Found]:
        lengths.append(len(text))
        return find(self, text, offset)

    monkeypatch.setattr(figures.Grammar, "find", watched)
    said = "we walked on and on until we had seen twenty-three of the houses that stand there "
    written = said.replace("twenty-three", "23")
    assert _written(said * 20 + "seven " * 1000 + said, "en") == written * 20 + "seven " * 1000 + written
    assert _written("七" * 1000 + "我们走了很远才看到那些漂亮的房子，三十五个", "zh").endswith("，35个")
    assert max(lengths) <= 160


def test_long_rows_of_numbers_are_written_in_figures() -> None:
    digits = "three oh three six one four eight one one zero zero four five seven seven two one eight five one "
    assert _written(digits * 4, "en") == "30361481100457721851" * 4 + " "
    said = "one hundred twenty three dollars five thousand six hundred and seven euros twenty two percent "
    assert _written(said * 5, "en") == "$123 €5,607 22% " * 5
    assert _written("三百二十元五十元" * 20, "zh") == "320元50元" * 20


def test_a_long_row_that_is_one_number_stays_as_it_is() -> None:
    """A part of it would be another number."""
    pi = "three point " + "one four one five nine two six five three five eight nine seven nine three two " * 3
    assert _written(pi, "en") == pi
