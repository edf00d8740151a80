"""`streaming-asr transcribe` as a user runs it: real speech, the embedded default, no server."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from streaming_asr.core.events import Final
from streaming_asr.core.recognizer import Word
from streaming_asr.text.subtitles import CUE_CHARS, cues_of, written
from tests.support.wire import words


def _transcribe(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streaming_asr", "transcribe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def sentence(librivox: Path) -> Path:
    return next(librivox.glob("*0930.wav"))


def test_text_goes_to_standard_output(sentence: Path) -> None:
    ended = _transcribe(sentence)
    assert ended.returncode == 0, ended.stderr
    assert words(ended.stdout) == words("He might even have been made amiable himself")


def test_json_has_words_with_times(sentence: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    ended = _transcribe(sentence, "--format", "json", "--word-times", "--output", output)
    assert (ended.returncode, ended.stdout) == (0, "")
    (final,) = json.loads(output.read_text())
    assert final["start_ms"] < final["words"][0]["end_ms"] < final["end_ms"]


def test_a_file_that_cannot_be_read_does_not_spoil_the_others(sentence: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio at all")
    ended = _transcribe(broken, tmp_path / "missing.mp3", sentence)
    assert ended.returncode == 1
    assert "amiable" in ended.stdout
    assert "broken.wav" in ended.stderr
    assert "missing.mp3" in ended.stderr
    assert "Traceback" not in ended.stderr


def _final(text: str, words_: tuple[Word, ...] | None = None) -> Final:
    return Final(1, 0, text, "en", 1_000, 11_000, 0.9, words_)


def test_subtitles_are_in_their_formats() -> None:
    finals = [_final("Hello there."), _final("")]
    assert written(finals, "srt") == "1\n00:00:01,000 --> 00:00:11,000\nHello there.\n\n"
    assert written(finals, "vtt") == "WEBVTT\n\n00:00:01.000 --> 00:00:11.000\nHello there.\n\n"


@pytest.mark.parametrize("text", ["word " * 100, "字" * 300, "x" * 100])
def test_long_finals_are_split_into_readable_cues(text: str) -> None:
    cues = cues_of(_final(text.strip()))
    assert all(len(cue.text) <= CUE_CHARS for cue in cues)
    assert (cues[0].start_ms, cues[-1].end_ms) == (1_000, 11_000)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(cues))
    assert "".join(cue.text for cue in cues).replace(" ", "") == text.replace(" ", "")


def test_cues_keep_the_words_own_times() -> None:
    said = tuple(Word(f"word{n:02}", 1000 * n, 1000 * n + 400) for n in range(40))
    cues = cues_of(Final(1, 0, " ".join(word.text for word in said), "en", 0, 40_000, 0.9, said))
    assert cues[0].start_ms == 0
    assert cues[1].start_ms == int(cues[1].text[4:6]) * 1000
