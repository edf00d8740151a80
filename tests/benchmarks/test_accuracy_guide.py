"""`benchmarks.accuracy guide`: the tables of the deployment guide, from a real server and from one that misbehaves."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.openai_server import parsed
from tests.sdks.clips import KEY
from tests.support.fake_openai import FakeOpenAIServer
from tests.support.live_server import LiveServer

pytestmark = pytest.mark.full

SAID = "HE MIGHT EVEN HAVE BEEN MADE AMIABLE HIMSELF"


@pytest.fixture(scope="module")
def librispeech(librivox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`LibriSpeech/test-clean` as it is published: speaker, chapter, transcripts beside FLAC files."""
    folder = tmp_path_factory.mktemp("corpus") / "LibriSpeech" / "test-clean"
    chapter = folder / "61" / "70968"
    chapter.mkdir(parents=True)
    audio, rate = soundfile.read(next(librivox.glob("*0930.wav")))
    lines = []
    for number in range(4):
        name = f"61-70968-{number:04}"
        soundfile.write(chapter / f"{name}.flac", audio, rate)
        lines.append(f"{name} {SAID}\n")
    (chapter / "61-70968.trans.txt").write_text("".join(lines))
    return folder


def _guide(folder: Path, url: str, output: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["guide", "--speech", str(folder), "--url", url, "--json", str(output), *arguments])
    return status, json.loads(output.read_text())


@pytest.mark.parametrize("request_form", ["transcriptions", "audio_url", "input_audio"])
def test_the_tables_of_our_own_server(
    server: LiveServer, librispeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request_form: str
) -> None:
    options = ("--request", request_form, "--samples", "2", "--throughput-samples", "2", "--concurrency", "2")
    status, result = _guide(librispeech, f"{server.http_url}/v1", tmp_path / "out.json", *options)
    assert status == 0
    assert result["model"] == "tiny.en"
    accuracy, throughput = result["accuracy"], result["throughput"]
    assert (accuracy["samples"], accuracy["success"], accuracy["failure"], accuracy["wer"]) == (2, 2, 0, 0)
    assert throughput["samples_per_s"] == pytest.approx(2 / throughput["runtime_s"])
    assert result["configuration"]["concurrency"] == 2
    assert result["setting"]["versions"]["jiwer"]
    shown = capsys.readouterr().out
    assert "0.035" in shown
    assert "1.73" in shown


def test_a_key_is_sent_and_never_written(
    guarded: LiveServer, librispeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--samples", "1", "--throughput-samples", "0")
    status, result = _guide(librispeech, guarded.http_url, tmp_path / "a.json", *options, "--api-key", KEY)
    assert (status, result["accuracy"]["success"]) == (0, 1)
    assert KEY not in (tmp_path / "a.json").read_text()
    assert main(["guide", "--speech", str(librispeech), "--url", guarded.http_url, *options]) == 1
    assert "API key" in capsys.readouterr().err


def test_wrong_late_and_failed_answers_are_told_apart(
    librispeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(number: int) -> tuple[int, Any]:
        if number == 1:
            return 500, {"error": {"message": "The engine is on fire.", "type": "server_error"}}
        if number == 2:
            fake.hold()
        wrong = SAID.replace("AMIABLE", "capable") if number == 3 else SAID.capitalize() + "."
        return 200, {"text": wrong}

    with FakeOpenAIServer(script) as fake:
        options = ("--throughput-samples", "0", "--timeout-s", "0.5")
        status, result = _guide(librispeech, fake.url, tmp_path / "out.json", *options)
    accuracy = result["accuracy"]
    assert status == 1
    assert (accuracy["samples"], accuracy["success"], accuracy["failure"]) == (4, 2, 2)
    assert accuracy["wer"] == pytest.approx(1 / 16)
    assert accuracy["wer_failures_as_lost"] == pytest.approx((1 + 16) / 32)
    assert [clip["failure"] for clip in accuracy["clips"]] == [
        "",
        "HTTP 500: The engine is on fire.",
        "no answer within 0.5 s",
        "",
    ]
    assert "on fire" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, "<html>Welcome</html>"), "not JSON"),
        ((200, {"choices": []}), "no text"),
        ((503, "try again later"), "HTTP 503: try again later"),
        ((404, {"detail": "Not Found"}), "HTTP 404"),
    ],
)
def test_answers_that_make_no_sense_are_failures(
    librispeech: Path, tmp_path: Path, answer: tuple[int, Any], message: str
) -> None:
    with FakeOpenAIServer(lambda _: answer) as fake:
        status, found = _guide(
            librispeech, fake.url, tmp_path / "o.json", "--samples", "1", "--throughput-samples", "0"
        )
    assert status == 1
    assert message in found["accuracy"]["clips"][0]["failure"]


def test_qwens_raw_form_is_taken_apart(librispeech: Path, tmp_path: Path) -> None:
    content = f"language English<asr_text>{SAID.capitalize()}."
    with FakeOpenAIServer(lambda _: (200, {"choices": [{"message": {"content": content}}]}), ["qwen3-asr"]) as fake:
        options = ("--request", "audio_url", "--samples", "1", "--throughput-samples", "0")
        status, result = _guide(librispeech, fake.url, tmp_path / "out.json", *options)
        path, body, _ = fake.asked[0]
    assert (status, result["accuracy"]["wer"]) == (0, 0)
    sent = json.loads(body)
    (part,) = sent["messages"][0]["content"]
    assert (path, sent["model"], part["type"]) == ("/v1/chat/completions", "qwen3-asr", "audio_url")
    kind, _, data = part["audio_url"]["url"].partition(",")
    assert (kind, base64.b64decode(data)[:4]) == ("data:audio/wav;base64", b"RIFF")


@pytest.mark.parametrize(
    ("raw", "text", "language"),
    [
        ("language English<asr_text>And so.", "And so.", "English"),
        ("language None<asr_text>", "", None),
        ("And so.", "And so.", None),
        ("The language English has words.", "The language English has words.", None),
        ("language English<asr_text>And so, language English<asr_text>my friends.", "And so, my friends.", "English"),
    ],
)
def test_raw_answers(raw: str, text: str, language: str | None) -> None:
    assert (parsed(raw).text, parsed(raw).language) == (text, language)


def test_no_server_no_speech_and_bad_options_are_told_in_a_line(
    librispeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["guide", "--speech", str(librispeech), "--url", "http://127.0.0.1:9"]) == 1
    assert "can't be reached" in capsys.readouterr().err
    assert main(["guide", "--speech", str(librispeech), "--url", "localhost:8000"]) == 1
    assert "localhost:8000" in capsys.readouterr().err
    assert main(["guide", "--speech", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["guide", "--samples", "0"])
    assert "of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_it_is_told_what_is_done(librispeech: Path, tmp_path: Path, stop: signal.Signals) -> None:
    def script(number: int) -> tuple[int, Any]:
        if number == 2:
            fake.hold()
        return 200, {"text": SAID}

    output = tmp_path / "out.json"
    with FakeOpenAIServer(script) as fake:
        command = [sys.executable, "-m", "benchmarks.accuracy", "guide", "--speech", str(librispeech)]
        process = subprocess.Popen(
            [*command, "--url", fake.url, "--json", str(output)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert fake.holding.wait(30)
        process.send_signal(stop)
        shown, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Accuracy of fake-asr" in shown
    result = json.loads(output.read_text())
    assert (result["interrupted"], result["accuracy"]["success"]) == (True, 2)
