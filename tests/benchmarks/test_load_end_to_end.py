"""The load generator against the real server, over a real socket, with real speech."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jiwer
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.common.protocols.registry import Target, make_adapter
from benchmarks.common.session_log import Outcome
from benchmarks.common.speech import OWN, clips
from benchmarks.load import pacing
from benchmarks.load.__main__ import main
from benchmarks.load.crowd import Crowd, Plan, Run
from benchmarks.load.utterances import cut
from tests.support.live_server import LiveServer
from tests.support.packet_log import read_packets
from tests.support.wire import run

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is not what these are about."""
    monkeypatch.setattr(pacing, "LAG_P99_S", 10.0)
    monkeypatch.setattr(pacing, "LAG_WORST_S", 30.0)


def test_two_sessions_at_the_pace_of_speech(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, packets = tmp_path / "run.json", tmp_path / "packets.jsonl"
    assert server.process is not None
    run_options = ("--clips", "2", "--streams", "2", "--objective-s", "60", "--quiet")
    watched = ("--server-pid", str(server.process.pid))
    page, picture = tmp_path / "run.html", tmp_path / "run.png"
    files = ("--json", str(output), "--logs", str(packets), "--html", str(page), "--png", str(picture))
    assert main(["--url", f"ws://127.0.0.1:{server.port}", *run_options, *watched, *files]) == 0
    result = json.loads(output.read_text())
    (made,) = result["runs"]
    assert made["sessions"] == {"done": 2, "refused": 0, "failed": 0, "measured": 2, "without_final": 0}
    assert made["symptoms"] == []
    # Before the endpoint's silence is over there can be no final.
    assert 0.4 < made["figures"]["time to final"]["p50"] < 60
    assert made["server"]["decodes"]["speculative"]["ok"] >= 2
    assert made["server"]["audio_s"] == pytest.approx(made["audio_s"], abs=0.1)
    assert made["server_process"]["cpu_s"] > 0
    assert made["server_process"]["rss_mib_max"] > 50
    assert result["versions"]["websockets"]
    assert "2 done, 0 refused, 0 failed" in capsys.readouterr().out

    # The page stands alone, and begins with what to think of the server.
    html = page.read_text(encoding="utf-8")
    assert re.search(r'class="verdict (good">Good|bad">Not good) at 2 streams', html)
    assert "<svg" in html
    assert not re.search(r'<script|(src|href)="(?!data:|#)|@import|url\((?!#)', html)
    assert picture.read_bytes().startswith(b"\x89PNG")

    # The packet log alone gives the same.
    (logs,) = read_packets(packets).values()
    known = {clip.id: clip for clip in clips(OWN, "librivox")}
    normalize = EnglishTextNormalizer()
    for log in logs:
        clip = known[log.clip]
        assert clip.duration_s is not None
        assert log.sent[-1].audio_s == pytest.approx(clip.duration_s + 1.0, abs=0.01)
        assert all(sent.at_s >= sent.audio_s for sent in log.sent)
        assert jiwer.wer(normalize(clip.text), normalize(log.shown[-1].final)) < 0.3
    finals = [
        min(shown.at_s for shown in log.shown if shown.final == log.shown[-1].final) - known[log.clip].words[-1][2]
        for log in logs
    ]
    assert made["figures"]["time to final"]["max"] == pytest.approx(max(finals))


def test_the_protocols_that_the_server_speaks_besides(server: LiveServer, tmp_path: Path) -> None:
    target = Target(f"ws://127.0.0.1:{server.port}", model="tiny.en")
    adapters = [make_adapter(protocol, target) for protocol in ("openai", "deepgram", "vllm")]
    found = clips(_one_clip(tmp_path), "one")

    async def all_at_once() -> list[Run]:
        crowds = [
            Crowd(adapter, cut(found, rate=adapter.sample_rate, chunk_ms=100, trailing_s=1.2), Plan(1))
            for adapter in adapters
        ]
        return await asyncio.gather(*(crowd.speak() for crowd in crowds))

    for done in run(all_at_once()):
        (take,) = done.measured()
        assert (take.log.outcome, take.log.reason) == (Outcome.DONE, "")
        assert "made amiable himself" in take.log.shown[-1].final
        assert [shown for shown in take.log.shown if shown.partial]


def _one_clip(folder: Path) -> Path:
    """A short clip as a set of its own, which the recognizer gets right whatever silence is around it."""
    (folder / "one").mkdir()
    line = (OWN / "librivox" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[4]
    entry = json.loads(line)
    entry["path"] = str(OWN / "librivox" / entry["path"])
    (folder / "one" / "manifest.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    return folder


def test_a_search_within_the_objective(server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run.json"
    arguments = ("--speech", str(_one_clip(tmp_path)), "--set", "one", "--quiet", "--json", str(output))
    search = ("--search", "--max-streams", "2", "--objective-s", "60")
    page = tmp_path / "run.html"
    short = ("--duration", "0.5", "--ramp", "0.1", "--trailing", "1.2", "--html", str(page))
    assert main(["--url", f"ws://127.0.0.1:{server.port}", *arguments, *search, *short]) == 0
    assert "Good at 2 streams, the most that were tried." in page.read_text(encoding="utf-8")
    found = json.loads(output.read_text())["streams_at_objective"]
    assert (found["streams"], found["at_least"]) == (2, True)
    assert [tried["streams"] for tried in found["tried"]] == [1, 2]
    assert "Streams at objective (p95 within 60 s): at least 2" in capsys.readouterr().out


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly_and_reports_what_was_done(server: LiveServer, tmp_path: Path, stop: int) -> None:
    output = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks.load", "--url", f"ws://127.0.0.1:{server.port}"]
    arguments = ["--speech", str(_one_clip(tmp_path)), "--set", "one", "--duration", "600", "--json", str(output)]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    opened = 'streaming_asr_sessions_opened_total{protocol="/v1/stream"}'
    before, deadline = server.metric(opened), time.monotonic() + 60
    # The first is the look whether there is a server, the second is the first that counts, and it is over at the third.
    while server.metric(opened) < before + 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(stop)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in out
    assert "Traceback" not in errors
    (made,) = json.loads(output.read_text())["runs"]
    assert made["interrupted"]
    assert made["sessions"]["done"] >= 1
    assert [session["outcome"] for session in made["each_session"]][-1] == "dropped"
