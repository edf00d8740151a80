"""The load generator against servers that are broken on purpose: each fault is shown as what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.load import pacing
from benchmarks.load.__main__ import main
from tests.support.broken_server import LATE_S, Fault, broken_server

pytestmark = pytest.mark.full

TEXT = "the quick brown fox jumps over a lazy dog while it rains"
AUDIO_S = 0.6
RATE = 16_000


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of one short clip; the broken server knows its words without listening."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "short").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, int(AUDIO_S * RATE))
    soundfile.write(folder / "short" / "clip.wav", noise, RATE)
    entry = {"id": "clip", "path": "clip.wav", "language": "en", "text": TEXT}
    (folder / "short" / "manifest.jsonl").write_text(json.dumps(entry) + "\n")
    return folder


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is not what these are about."""
    monkeypatch.setattr(pacing, "LAG_P99_S", 10.0)
    monkeypatch.setattr(pacing, "LAG_WORST_S", 30.0)


def _measured(fault: Fault, speech: Path, folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit status and the run's JSON."""
    file = folder / "run.json"
    arguments = ("--speech", str(speech), "--set", "short", "--trailing", "0.2", "--chunk-ms", "50", "--quiet")
    limits = ("--objective-s", "1", "--patience", "3", "--json", str(file))
    with broken_server(fault, TEXT, AUDIO_S) as url:
        status = main(["--url", url, *arguments, *limits, *more])
    return status, json.loads(file.read_text())["runs"][0]


def test_a_server_without_fault_shows_none(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, run = _measured(Fault.NONE, speech, tmp_path)
    assert (status, run["valid"], run["symptoms"]) == (0, True, [])
    assert run["sessions"] == {"done": 1, "refused": 0, "failed": 0, "measured": 1, "without_final": 0}
    assert run["each_session"][0]["final"] == TEXT
    assert run["word_errors"] == {"words": 12, "wrong": 0, "left_out": 0, "added": 0, "rate": 0.0}
    assert "1 done, 0 refused, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        (Fault.LATE, "late"),
        (Fault.LOSSY, "lost words"),
        (Fault.DOUBLING, "doubled words"),
        (Fault.REORDERING, "out of order"),
        (Fault.SILENT, "silent"),
        (Fault.NEVER_FINAL, "never final"),
    ],
)
def test_a_fault_is_named(
    fault: Fault, symptom: str, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, run = _measured(fault, speech, tmp_path)
    assert status == 0
    assert [found["name"] for found in run["symptoms"]] == [symptom]
    assert f"{symptom}: 1 of 1 sessions" in capsys.readouterr().out


def test_what_comes_twice_is_counted_as_added(speech: Path, tmp_path: Path) -> None:
    _, run = _measured(Fault.DOUBLING, speech, tmp_path)
    assert run["word_errors"] == {"words": 12, "wrong": 0, "left_out": 0, "added": 12, "rate": 1.0}


def test_what_is_late_is_late_in_the_figures(speech: Path, tmp_path: Path) -> None:
    _, run = _measured(Fault.LATE, speech, tmp_path, "--finalize")
    assert LATE_S < run["figures"]["time to final"]["p50"] < LATE_S + 1.0
    # Asked for at the end of the clip, where it was due.
    assert LATE_S - 0.1 < run["figures"]["final after finalize"]["p50"] < LATE_S + 1.0
    assert run["figures"]["first text"]["p50"] > LATE_S
    # Counted in audio that was sent meanwhile, nothing comes later than the end of it.
    lagging = {name: figure["p50"] for name, figure in run["figures"].items() if name.startswith("lagging")}
    assert lagging["lagging (LAAL), by the audio sent"] < AUDIO_S + 0.3 < lagging["lagging (LAAL), by the clock"]


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        (Fault.REFUSING, "refused", "busy: All sessions are taken."),
        (Fault.BREAKING_OFF, "failed", "the connection broke (close code 1006)"),
        (Fault.NEVER_DONE, "failed", "not done 3 s after the end of the audio"),
    ],
)
def test_a_session_that_does_not_end_well_is_counted_with_its_reason(
    fault: Fault, outcome: str, reason: str, speech: Path, tmp_path: Path
) -> None:
    status, run = _measured(fault, speech, tmp_path)
    assert status == 1
    assert run["sessions"][outcome] == 1
    session = run["each_session"][0]
    assert (session["outcome"], session["reason"]) == (outcome, reason)
    assert [found["name"] for found in run["symptoms"]] == [outcome]


def test_a_server_that_takes_no_session_at_all_is_told_at_once(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--url", "ws://127.0.0.1:9", "--speech", str(speech), "--set", "short"])
    assert end.value.code == 1
    assert "takes no session: ws://127.0.0.1:9/v1/stream can't be reached" in capsys.readouterr().err


def test_more_streams_than_clips_need_a_duration(speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--speech", str(speech), "--set", "short", "--streams", "2"])
    assert "2 streams can't share 1 clips: say with --duration how long" in capsys.readouterr().err
