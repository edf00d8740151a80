"""Subtitles as the server writes them."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import cues as client
from clients import events as client_events
from streaming_asr.core.events import Final
from streaming_asr.core.recognizer import Word
from streaming_asr.text.subtitles import Cue, cues_of, render
from tests.support.vectors import cases, random_final, run_javascript


def _final(case: dict[str, Any]) -> Final:
    words = tuple(Word(**word) for word in case["words"]) if case["words"] else None
    return Final(
        case["utterance"],
        0,
        case["text"],
        None,
        case["start_ms"],
        case["time_ms"],
        None,
        words,
        speaker=case.get("speaker"),
    )


@pytest.mark.parametrize("case", cases("subtitles", "cases"), ids=lambda case: case["name"])
@pytest.mark.parametrize("style", ["srt", "vtt"])
def test_subtitles_as_all_write_them(case: dict[str, Any], style: str) -> None:
    assert render([_final(final) for final in case["finals"]], style).split("\n")[:-1] == case[style]


@given(st.integers(0, 10_000_000))
def test_any_text_is_kept_and_cut_as_the_python_client_does(seed: int) -> None:
    case = random_final(random.Random(seed))
    cues = cues_of(_final(case))
    assert "".join("".join(cue.text for cue in cues).split()) == "".join(case["text"].split())
    assert all(cue.start_ms < cue.end_ms for cue in cues)
    final = msgspec.convert({"type": "final", **case}, client_events.Final)
    assert cues == [Cue(cue.start_ms, cue.end_ms, cue.text, cue.speaker) for cue in client.cues_of(final)]


@pytest.mark.full
def test_any_text_is_cut_as_the_browser_does() -> None:
    finals = [random_final(random.Random(seed)) for seed in range(500)]
    given = run_javascript(subtitles=[{"finals": [final]} for final in finals])["subtitles"]
    for final, lines in zip(finals, given, strict=True):
        assert lines == {style: render([_final(final)], style).split("\n")[:-1] for style in ("srt", "vtt")}


def test_text_and_json_are_as_they_were_said() -> None:
    finals = [_final({"utterance": 1, "text": "a --> b & c", "start_ms": 0, "time_ms": 9, "words": None})]
    assert render(finals, "text") == "a --> b & c\n"
    assert '"text": "a --> b & c"' in render(finals, "json")
