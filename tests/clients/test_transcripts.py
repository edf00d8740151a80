"""Cues and transcript files."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clients.cues import MAX_MS, MAX_WIDTH, Cue, cues_of
from clients.events import Final, Word
from clients.scripts import split, width
from clients.transcript_files import TranscriptError, VttFile, create_transcript
from tests.support.vectors import cases


def final(text: str, start_ms: int = 0, time_ms: int = 1000, **fields: object) -> Final:
    return Final(**{"utterance": 1, "text": text, "start_ms": start_ms, "time_ms": time_ms, **fields})  # type: ignore[arg-type]


def timed(text: str, start_ms: int = 0, each_ms: int = 300) -> tuple[Word, ...]:
    """The words of a text, one after the other."""
    return tuple(
        Word(text=word, start_ms=start_ms + index * each_ms, end_ms=start_ms + (index + 1) * each_ms)
        for index, word in enumerate(text.split())
    )


@pytest.mark.parametrize("case", cases("scripts", "split"), ids=lambda case: case["name"])
def test_a_text_is_cut_between_words(case: dict[str, Any]) -> None:
    assert split(case["text"]) == case["pieces"]


@pytest.mark.parametrize("case", cases("scripts", "width"), ids=lambda case: case["text"])
def test_characters_fill_columns(case: dict[str, Any]) -> None:
    assert width(case["text"]) == case["columns"]


@pytest.mark.parametrize("case", cases("subtitles", "cases"), ids=lambda case: case["name"])
@pytest.mark.parametrize("style", ["srt", "vtt"])
def test_subtitles_as_all_write_them(tmp_path: Path, case: dict[str, Any], style: str) -> None:
    path = tmp_path / f"t.{style}"
    with create_transcript(path) as transcript:
        for each in case["finals"]:
            transcript.add(msgspec.convert({"type": "final", **each}, Final))
    assert path.read_text(encoding="utf-8").split("\n")[:-1] == case[style]


def test_a_short_utterance_is_one_cue_with_its_own_times() -> None:
    assert cues_of(final(" Hello there. ", 120, 900)) == [Cue(120, 900, "Hello there.")]


def test_an_empty_utterance_has_no_cue() -> None:
    assert cues_of(final("  ")) == []


def test_word_times_are_those_of_the_cues() -> None:
    text = "Hello there."
    assert cues_of(final(text, 0, 5000, words=timed(text, 700))) == [Cue(700, 1300, text)]


def test_long_speech_is_cut_after_sentences() -> None:
    text = "One two three four five six seven. " * 5
    cues = cues_of(final(text.strip(), 0, 10_500, words=timed(text)))
    assert [cue.text for cue in cues] == [
        "One two three four five six seven. One two three four five six seven.",
        "One two three four five six seven. One two three four five six seven.",
        "One two three four five six seven.",
    ]
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(0, 4200), (4200, 8400), (8400, 10_500)]


def test_without_a_sentence_it_is_cut_at_a_pause_else_after_a_clause() -> None:
    words = list(timed("aaaa " * 20, each_ms=200))
    paused = [
        Word(text=word.text, start_ms=word.start_ms + 600 * (index > 11), end_ms=word.end_ms + 600 * (index > 11))
        for index, word in enumerate(words)
    ]
    cues = cues_of(final(("aaaa " * 20).strip(), 0, 5000, words=tuple(paused)))
    assert [len(cue.text.split()) for cue in cues] == [12, 8]

    text = "aaaa " * 9 + "aaaa, " + "aaaa " * 9 + "aaaa"
    assert cues_of(final(text, 0, 5000, words=timed(text, each_ms=200)))[0].text.endswith(",")


def test_slow_speech_is_cut_by_time() -> None:
    text = "aa " * 20
    for cue in cues_of(final(text.strip(), 0, 20_000, words=timed(text, each_ms=1000))):
        assert cue.end_ms - cue.start_ms <= MAX_MS


def test_without_word_times_the_time_is_shared_by_length() -> None:
    text = " ".join(["word"] * 40)
    cues = cues_of(final(text, 1000, 11_000))
    assert " ".join(cue.text for cue in cues) == text
    assert cues[0].start_ms == 1000
    assert cues[-1].end_ms == 11_000
    for cue, following in itertools.pairwise(cues):
        assert cue.end_ms == following.start_ms
    for cue in cues:
        assert width(cue.text) <= MAX_WIDTH
        assert cue.end_ms - cue.start_ms == pytest.approx(len(cue.text) * 10_000 / len(text), abs=100)


def test_chinese_is_cut_between_characters_but_not_before_punctuation() -> None:
    text = "今天天气很好，" * 12
    cues = cues_of(final(text, 0, 20_000))
    assert "".join(cue.text for cue in cues) == text
    assert len(cues) > 1
    for cue in cues:
        assert width(cue.text) <= MAX_WIDTH
        assert cue.text.endswith("，")


def test_chinese_words_with_times_get_no_spaces() -> None:
    words = tuple(Word(text=char, start_ms=i * 200, end_ms=i * 200 + 200) for i, char in enumerate("你好世界"))
    assert cues_of(final("你好，世界。", words=words)) == [Cue(0, 800, "你好，世界。")]


def test_words_that_are_not_those_of_the_text_are_passed_over() -> None:
    words = (Word(text="other", start_ms=5, end_ms=6),)
    assert cues_of(final("Hello there.", 0, 900, words=words)) == [Cue(0, 900, "Hello there.")]


def test_a_word_longer_than_a_cue_is_a_cue() -> None:
    word = "a" * 200
    assert [cue.text for cue in cues_of(final(f"{word} b", 0, 900))] == [word, "b"]


FINALS = [
    final("So — <b> & 你好.", 3_660_500, 3_661_234, language="en", confidence=0.9),
    final(""),
    final("Bye.", 3_662_000, 3_663_000, utterance=2, channel=1, words=timed("Bye.", 3_662_100)),
]

EXPECTED = {
    "t.txt": "So — <b> & 你好.\nBye.\n",
    "t.srt": "1\n01:01:00,500 --> 01:01:01,234\nSo — <b> & 你好.\n\n2\n01:01:02,100 --> 01:01:02,400\nBye.\n\n",
    "t.vtt": "WEBVTT\n\n01:01:00.500 --> 01:01:01.234\nSo — &lt;b&gt; &amp; 你好.\n\n"
    "01:01:02.100 --> 01:01:02.400\nBye.\n\n",
    "t.JSON": '{"utterances": [\n'
    '{"utterance":1,"channel":0,"start_ms":3660500,"end_ms":3661234,"text":"So — <b> & 你好.","language":"en",'
    '"confidence":0.9,"words":null,"speaker":null},\n'
    '{"utterance":2,"channel":1,"start_ms":3662000,"end_ms":3663000,"text":"Bye.","language":null,'
    '"confidence":null,"words":[{"text":"Bye.","start_ms":3662100,"end_ms":3662400,"probability":null,'
    '"times_from":"recognizer","speaker":null}],"speaker":null}\n]}\n',
}


@pytest.mark.parametrize("name", EXPECTED)
def test_files_as_they_are_written(tmp_path: Path, name: str) -> None:
    with create_transcript(tmp_path / "new folder" / name) as transcript:
        for each in FINALS:
            transcript.add(each)
    assert (tmp_path / "new folder" / name).read_bytes() == EXPECTED[name].encode()


def test_a_file_is_whole_after_each_utterance(tmp_path: Path) -> None:
    transcript = create_transcript(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == {"utterances": []}
    for count in (1, 2, 3):
        transcript.add(final("so"))
        assert len(json.loads((tmp_path / "t.json").read_text())["utterances"]) == count
    transcript.close()


@pytest.mark.parametrize(
    ("suffix", "expected"), [("txt", "[channel 2] Bye."), ("srt", "\n[channel 2] Bye."), ("vtt", "<v Channel 2>Bye.")]
)
def test_two_channels_are_labelled(tmp_path: Path, suffix: str, expected: str) -> None:
    path = tmp_path / f"t.{suffix}"
    with create_transcript(path, several_channels=True) as transcript:
        transcript.add(FINALS[2])
    assert expected in path.read_text()


def test_an_arrow_in_the_text_does_not_break_subtitles(tmp_path: Path) -> None:
    for suffix in ("srt", "vtt"):
        path = tmp_path / f"t.{suffix}"
        with create_transcript(path) as transcript:
            transcript.add(final("a --> b"))
        assert len(re.findall("-->", path.read_text())) == 1


def test_an_unknown_format_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match=r"end the name in one of \.txt, \.json, \.srt, \.vtt"):
        create_transcript(tmp_path / "t.doc")


def test_a_place_that_can_not_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TranscriptError, match="can't write"):
        create_transcript(tmp_path / "file" / "t.txt")


def test_a_full_disk_is_reported() -> None:
    with pytest.raises(TranscriptError, match="No space left"):
        VttFile(Path("/dev/full"))
