"""`benchmarks.accuracy compare`, `hallucination` and `long`: the real model on the clips of the repository."""

from __future__ import annotations

import asyncio
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.compare import Comparison, Way
from benchmarks.accuracy.compare_page import page
from benchmarks.accuracy.long_session import LongSessions
from benchmarks.accuracy.sources import NoTranscript, OnProgress, Transcript
from benchmarks.common.speech import Clip, NoSpeech
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from tests.support.live_server import LiveServer

pytestmark = pytest.mark.full

ENGLISH = ("--model", "tiny.en")


@pytest.fixture(scope="module")
def two_clips(librivox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sets: two English clips, the second with a word in its text that is not spoken, and a German one."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "short").mkdir()
    texts = {
        "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
        "0930": "he might even have been made quite amiable himself",
    }
    lines = []
    for number, text in texts.items():
        shutil.copy(librivox / f"sense_and_sensibility_01_{number}.wav", folder / "short" / f"{number}.wav")
        lines.append({"id": number, "path": f"{number}.wav", "language": "en", "text": text})
    lines.append({"id": "deutsch", "path": "0890.wav", "language": "de", "text": "guten Tag"})
    (folder / "short" / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_files_and_streams_of_the_same_model_are_compared(
    two_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_file, html_file = tmp_path / "out" / "a.json", tmp_path / "out" / "a.html"
    reports = ("--json", str(json_file), "--html", str(html_file))
    assert main(["--speech", str(two_clips), "--set", "short", *reports, *ENGLISH]) == 0
    shown = capsys.readouterr().out
    assert "quite" in shown
    assert "deutsch: tiny.en does not know 'de'" in shown
    result = json.loads(json_file.read_text())
    (group,) = result["groups"]
    assert (group["language"], group["measure"], group["clips"], group["units"]) == ("en", "WER", 2, 23)
    assert group["ways"]["offline"]["rate"] == group["ways"]["finals"]["rate"] == pytest.approx(1 / 23)
    assert set(group["ways"]) == {way.value for way in Way}
    clip = result["clips"][1]
    assert clip["errors"]["finals"] == 1
    assert ["quite", "", ""] in clip["aligned"]
    assert result["configuration"]["decode_ms"] == 100
    assert "quite" in html_file.read_text()


def test_simulated_time_gives_the_same_text_again(two_clips: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one.json", "other.json"):
        options = (
            "--set",
            "short",
            "--clips",
            "1",
            "--language",
            "en",
            "--errors",
            "0",
            "--json",
            str(tmp_path / name),
        )
        assert main(["compare", "--speech", str(two_clips), *options, *ENGLISH]) == 0
        texts.append(json.loads((tmp_path / name).read_text())["clips"])
    assert texts[0] == texts[1]


def test_a_server_is_compared_as_fast_as_it_goes(server: LiveServer, two_clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    options = ("--set", "short", "--language", "en", "--url", server.url, "--json", str(output))
    assert main(["--speech", str(two_clips), *options]) == 0
    result = json.loads(output.read_text())
    assert set(result["groups"][0]["ways"]) == {"offline", "finals"}
    assert result["groups"][0]["ways"]["finals"]["rate"] == pytest.approx(1 / 23)


def test_a_server_at_real_time_shows_partials_and_lags(server: LiveServer, two_clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    options = ("--set", "short", "--clips", "1", "--url", server.http_url, "--real-time", "--json", str(output))
    pid = str(server.process.pid if server.process else 0)
    assert main(["long", "--speech", str(two_clips), *options, "--server-pid", pid]) == 0
    (session,) = json.loads(output.read_text())["sessions"]
    assert session["rate"]["streamed"] == 0
    assert 0.4 < max(session["lags_s"][3]) < 10
    assert session["memory_mib"][4] > 50


def test_session_options_reach_the_core(two_clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (*ENGLISH, "--speech", str(two_clips), "--set", "short", "--option")
    assert main([*options, "endpoint_ms=1"]) == 1
    assert "endpoint_ms: 1 is out of range" in capsys.readouterr().err
    assert main([*options, "endpiont_ms=800"]) == 1
    assert "no session has the option endpiont_ms; these are to be had: channel_mode" in capsys.readouterr().err
    assert main([*options, "endpoint_ms=soon"]) == 1
    assert "of the wrong kind" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*options, "sample_rate=8000"])
    assert "follows from the audio" in capsys.readouterr().err
    assert main([*options, "language=xx"]) == 1
    assert "tiny.en does not know 'xx'" in capsys.readouterr().err


def test_words_without_speech_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str], librivox: Path) -> None:
    """A "recording without speech" with six words in it, and one of noise."""
    folder = tmp_path / "nonspeech"
    folder.mkdir()
    shutil.copy(librivox / "sense_and_sensibility_01_0930.wav", folder / "talk.wav")
    noise = np.random.default_rng(0).normal(0, 0.01, 3 * SAMPLE_RATE)
    soundfile.write(folder / "noise.wav", noise, SAMPLE_RATE)
    entries = [{"id": name, "path": f"{name}.wav", "language": "none", "text": ""} for name in ("talk", "noise")]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, entries)))
    output = tmp_path / "out.json"
    assert main(["hallucination", "--speech", str(tmp_path), "--json", str(output), *ENGLISH]) == 0
    result = json.loads(output.read_text())
    assert result["words_per_minute"]["finals"] == pytest.approx(8 / result["minutes"])
    assert [clip["finals"] for clip in result["clips"] if clip["id"] == "noise"] == [""]
    assert "talk: He might even have been made amiable himself." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "none"), "has neither manifest.jsonl nor"),
        (("--language", "fr"), "no clip of language 'fr'"),
        (("--real-time",), "--real-time and --server-pid need a server"),
        (("--url", "ws://127.0.0.1:9"), "No server at"),
        (("--model", "tiny.en", "--tensor-parallel-size", "2"), "unrecognized arguments: --tensor-parallel-size 2"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], librivox: Path
) -> None:
    assert main(["--speech", str(librivox.parent), *arguments]) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


class FakeSource:
    """Transcribes as the test says."""

    model = "fake"
    languages = ("en", "zh")
    at_once = 2
    has_partials = False
    has_lags = True

    def __init__(self, finals: list[tuple[str, float, float]], offline: str = "") -> None:
        self._finals = finals
        self._offline = offline

    async def start(self) -> None: ...

    async def offline(self, audio: Audio, language: str | None) -> str:
        return self._offline

    async def stream(self, audio: Audio, language: str | None, on_progress: OnProgress) -> Transcript:
        if not self._finals:
            raise NoTranscript("the connection broke off")
        transcript = Transcript()
        for second in range(1, len(audio) // SAMPLE_RATE + 1):
            on_progress(second)
        for number, (text, end_s, at_s) in enumerate(self._finals):
            transcript.show_final(number, text, end_s=end_s, at_s=at_s)
        # The others end with the stream.
        for number, (_, end_s, _) in enumerate(self._finals[:-1]):
            transcript.show_pause_end(number, at_s=end_s + 0.75)
        return transcript

    def memory_bytes(self) -> int:
        return 0

    async def close(self) -> None: ...


@pytest.fixture
def silence(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(8 * SAMPLE_RATE), SAMPLE_RATE)
    return tmp_path / "a.wav"


def test_a_long_session_that_slows_down_and_loses_words_is_shown_so(silence: Path) -> None:
    said = "the quick brown fox jumps over the lazy dog while all of us look on and then sleeps in the warm sun"
    finals = [
        ("The quick brown fox", 1.5, 2.0),
        ("the quick brown fox jumps over the lazy dog while all of us", 4.0, 5.0),
        ("in the warm sun", 7.5, 12.0),
    ]
    source = FakeSource(finals, said)
    sessions = LongSessions()
    asyncio.run(sessions.run(source, source, [Clip("a", silence, "en", said)], detect=False))
    (session,) = sessions.done
    assert session.lags_s == ((0.5,), (), (1.0,), (4.5,))
    assert [passage.text for passage in session.lost] == ["look on and then sleeps"]
    assert [passage.text for passage in session.doubled] == ["the quick brown fox"]
    assert session.offline is not None
    assert session.offline.rate == 0


def test_languages_are_told_apart_and_what_breaks_off_is_left_out(silence: Path) -> None:
    source = FakeSource([("甚至出线", 1.0, 1.5)], "甚至出现")
    comparison = Comparison()
    sets = {"a": [Clip("1", silence, "zh", "甚至出现")], "b": [Clip("2", silence, "zh", "甚至出现")]}
    asyncio.run(comparison.run(source, source, sets, detect=False))
    result = comparison.as_json()
    assert [(group["name"], group["measure"], group["ways"]["finals"]["rate"]) for group in result["groups"]] == [
        ("a", "CER", 0.25),
        ("b", "CER", 0.25),
        ("all", "CER", 0.25),
    ]
    broken = Comparison()
    asyncio.run(broken.run(FakeSource([]), source, sets, detect=False))
    assert broken.done == []
    assert broken.left_out == ["1: the connection broke off", "2: the connection broke off"]


def test_a_recording_without_a_reference_is_compared_with_its_whole_file(silence: Path) -> None:
    source = FakeSource([("red green", 1.0, 1.5), ("black", 3.0, 4.25)], "red green blue black")
    without = Clip("1", silence, "en", "")
    comparison = Comparison()
    asyncio.run(comparison.run(source, source, {"a": [without]}, detect=False, against_whole=True))
    (group,) = comparison.as_json()["groups"]
    assert (group["units"], group["ways"]["finals"]["deleted"], group["ways"]["offline"]["rate"]) == (4, 1, 0)
    assert (group["utterances"], group["wait_s"]["p50"], group["wait_s"]["n"]) == (2, pytest.approx(0.75), 1)
    with pytest.raises(NoSpeech, match="1: nothing is said in it"):
        asyncio.run(Comparison().run(source, source, {"a": [without]}, detect=False))


def test_the_page_needs_nothing_else_and_shows_texts_as_texts(silence: Path) -> None:
    source = FakeSource([("a <b>bold</b> word", 1.0, 1.5)], "a word")
    comparison = Comparison()
    asyncio.run(comparison.run(source, source, {"<s>": [Clip("<i>", silence, "zh", "a <script> word")]}, detect=False))
    tags = _Tags()
    tags.feed(page(comparison, {"configuration": {"option": "</pre><img>"}}))
    assert not tags.names & {"script", "link", "img", "b", "i", "s"}
    assert "section" in tags.names


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.names.add(tag)
