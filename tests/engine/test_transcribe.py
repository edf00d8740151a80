"""`streaming-asr transcribe` as a user runs it: real speech, the embedded default, no server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from streaming_asr.core.options import SessionOptions
from streaming_asr.transcribe import transcribe_files
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.media_files import CASES
from tests.support.wire import words

pytestmark = pytest.mark.full


def _transcribe(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streaming_asr", "transcribe", "--model", "tiny.en", *map(str, arguments)]
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


@pytest.mark.parametrize("text", ["Comment ça va ?", "안녕하세요. 저는 학생입니다.", "我用 Python 写", "สวัสดี", "a & b"])
def test_subtitles_have_the_very_text(sentence: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    options = SessionOptions(vad="webrtc")
    asyncio.run(transcribe_files(FakeRecognizer(text), [sentence], options, style="srt", output=None))
    assert capsys.readouterr().out.split("\n")[2:] == [text, "", ""]


def test_an_output_that_can_not_be_written_is_reported_before_the_work(sentence: Path, tmp_path: Path) -> None:
    ended = _transcribe(sentence, "--output", tmp_path / "missing" / "out.txt")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"streaming-asr: {tmp_path / 'missing' / 'out.txt'}: No such file or directory\n"


def test_standard_input_that_is_used_up_is_reported(sentence: Path) -> None:
    command = [sys.executable, "-m", "streaming_asr", "transcribe", "--model", "tiny.en", "-", "-"]
    ended = subprocess.run(command, input=sentence.read_bytes(), capture_output=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert words(ended.stdout.decode()) == words("He might even have been made amiable himself")
    assert b"streaming-asr: -: it is empty" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_damage_is_reported_and_the_rest_transcribed(tmp_path: Path) -> None:
    (tmp_path / "damaged.mp3").write_bytes(CASES["damaged MP3"].make())
    ended = _transcribe(tmp_path / "damaged.mp3")
    assert ended.returncode == 0
    assert "prudently" in ended.stdout
    assert "damaged.mp3: The recording is damaged at" in ended.stderr.replace("\n", " ")


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_pipe_is_transcribed(sentence: Path, name: str) -> None:
    command = [sys.executable, "-m", "streaming_asr", "transcribe", "--model", "tiny.en", name]
    with subprocess.Popen(["cat", sentence], stdout=subprocess.PIPE) as cat:
        ended = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "amiable" in ended.stdout
