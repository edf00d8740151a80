"""The report of runs, opened in a real browser from a file, and what it says of good servers and of others."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from benchmarks.report.__main__ import main
from benchmarks.report.errors import compared
from benchmarks.report.page import written
from benchmarks.report.runs import BadRun, Run, document, read
from tests.support.browser import chromium


def _spread(*values: float) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "p50": ordered[len(ordered) // 2],
        **dict.fromkeys(("p90", "p95", "p99", "max"), ordered[-1]),
        "n": len(values),
        "values": list(values),
    }


def _session(clip: str, said: str, final: str) -> dict[str, Any]:
    return {
        "session": 0,
        "clip": clip,
        "language": "en",
        "reference": said,
        "final": final,
        "partial": "",
        "measured": True,
    }


def _run(streams: int = 1, final_s: float = 0.6, **changes: Any) -> dict[str, Any]:
    return {
        "streams": streams,
        "invalid_because": None,
        "valid": True,
        "sessions": {"done": 2, "refused": 0, "failed": 0, "measured": 2},
        "figures": {
            "first text": _spread(0.5, 0.6),
            "time to final": _spread(final_s, final_s + 0.1),
            "word shown after it was said": _spread(0.2, 0.3, 0.5),
            "lagging (LAAL), by the clock": _spread(0.4),
        },
        "word_errors": {"words": 20, "rate": 0.05},
        "stability": {"erasure": 0.2, "upwr": 0.1},
        "symptoms": [],
        "generator": {"lag_s": _spread(0.001)},
        "server_process": {"cpu_s_per_audio_s": 0.2},
        "each_session": [
            _session("good", "one two", "One, two."),
            _session("bad", "a bee then c", "a tree then then c"),
        ],
        "example": {
            "clip": "good",
            "reference": "one two",
            "words": [["one", 0.1, 0.4], ["two", 0.5, 0.9]],
            "speech_s": 1.0,
            "audio_s": 2.0,
            "envelope": [0.1, 0.5, 0.2],
            "shown": [[0.6, "", "one"], [1.1, "", "one two"], [1.6, "One two.", ""]],
        },
        **changes,
    }


def _result(*runs: dict[str, Any]) -> dict[str, Any]:
    return {
        "started": "2026-01-01T00:00:00+00:00",
        "configuration": {"objective_s": 2.0, "set": "librivox"},
        "machine": {"cores": 2},
        "versions": {"python": "3.11"},
        "commit": "abc",
        "streams_at_objective": None,
        "runs": list(runs),
    }


def _faults(**changes: Any) -> list[str]:
    return Run("x", _run(**changes), 2.0).faults()


def test_what_keeps_a_server_from_being_good() -> None:
    assert _faults() == []
    assert "can't be trusted: p99" in _faults(invalid_because="p99 is 0.3 s")[0]
    assert "2.60 s" in _faults(final_s=2.5)[0]
    assert _faults(sessions={"done": 1, "refused": 3, "failed": 0}) == ["3 sessions refused"]
    assert _faults(symptoms=[{"name": "lost words", "sessions": 2, "example": ""}]) == ["lost words in 2 sessions"]
    assert "40% of the words" in _faults(word_errors={"words": 10, "rate": 0.4})[0]
    silent = _run()
    silent["figures"] = {}
    assert Run("x", silent, 2.0).faults() == ["no session got a final text"]


def test_a_page_of_two_servers_opens_offline_and_says_first_which_is_good(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours.json", tmp_path / "other.json"
    ours.write_text(json.dumps(_result(_run(1), _run(8, 1.5), _run(16, 3.0))))
    other.write_text(json.dumps(_result(_run(1, 4.0))))
    page, picture = tmp_path / "page.html", tmp_path / "plots.png"
    assert main([f"ours={ours}", str(other), "--html", str(page), "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    asked: list[str] = []
    faults: list[str] = []
    with sync_playwright() as playwright, chromium(playwright) as browser:
        for width in (1200, 380):
            shown = browser.new_page(viewport={"width": width, "height": 800})
            shown.on("request", lambda request: asked.append(request.url))
            shown.on("console", lambda message: faults.append(message.text))
            shown.goto(page.as_uri())
            verdicts = shown.locator(".verdict")
            assert verdicts.first.inner_text().startswith("Good at 8 streams. Finals come 1.60 s after")
            assert verdicts.first.is_visible()
            assert (
                verdicts.nth(1).inner_text().startswith("Not good at 1 stream: one final in twenty takes more than 4.1")
            )
            assert shown.locator("figure svg").count() == 5
            wider = shown.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, f"{wider} px wider than the screen"
            assert shown.locator("td del").first.inner_text() == "bee"
    assert asked == [page.as_uri()] * 2
    assert not faults


def test_what_was_heard_stands_beside_what_was_said() -> None:
    side = compared(_session("bad", "we saw two birds", "We saw to birds. Again!"))
    assert (side.errors, side.words) == (2, 4)
    assert side.said == "we saw <del>2</del> birds"
    assert side.read == "we saw <ins>to</ins> birds <ins>again</ins>"


def test_a_run_without_text_still_has_a_page() -> None:
    silent = _run(figures={}, example=None, word_errors={"words": 0, "rate": None}, each_session=[])
    silent["stability"] = {"erasure": None, "upwr": None}
    page = written([document(_result(silent), "silent")])
    assert "no session got a final text" in page


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"configuration": {"objective_s": 2}, "runs": []}'])
def test_a_file_that_is_no_run_is_result(broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    file.write_text(broken)
    with pytest.raises(BadRun):
        read(file)
    with pytest.raises(SystemExit) as ended:
        main([str(file), "--html", str(tmp_path / "page.html")])
    assert ended.value.code == 2
    assert "run" in capsys.readouterr().err


def test_names_are_not_taken_for_html() -> None:
    result = copy.deepcopy(_result(_run()))
    result["runs"][0]["each_session"][1]["clip"] = "<script>alert(1)</script>"
    assert "<script>" not in written([document(result, "<script>")])
