"""Talk among several in the load generator: where speech ends, what the figures are; and kinds of speech in turn."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.common.session_log import SessionLog, Shown
from benchmarks.common.speech import OWN, Clip, add_sets_option, clips_of
from benchmarks.hostile.__main__ import Row, _report
from benchmarks.load.crowd import Crowd, Plan, Run
from benchmarks.load.figures import BY_PIPECAT, FINAL, FIRST_TEXT, IN_RESTS, after_rests, figures, without_final
from benchmarks.load.speaking import Take
from benchmarks.load.symptoms import symptoms
from benchmarks.load.talk import stretches
from benchmarks.load.utterances import Chunk, Utterance, cut
from tests.benchmarks.test_load import FakeAdapter
from tests.support.wire import run

TURNS = (("A", 1.0, 6.0), ("B", 3.0, 3.4), ("B", 5.5, 8.0), ("A", 8.7, 9.0), ("C", 12.0, 12.4), ("A", 15.0, 20.0))
"""B murmurs while A speaks, and begins before A has ended; A has a last word; C murmurs alone."""


def _take(*shown: Shown, turns: tuple[tuple[str, float, float], ...] = TURNS, stops: tuple[float, ...] = ()) -> Take:
    clip = Clip("meeting", Path("none"), "en", "", turns=turns, of_set="conversation")
    log = SessionLog("meeting", shown=list(shown), finalize_s=stops[-1] if stops else None, asked_s=list(stops))
    return Take(log, 0, Utterance(clip, (Chunk(bytes(2), 20.0),), (), stops_s=stops), 0.0, ended=True)


def _found(take: Take) -> dict[str, tuple[float, ...]]:
    return {figure.name: pytest.approx(figure.values) for figure in figures([take])}


def test_a_stretch_of_talk_ends_with_the_last_of_those_who_speak_at_once() -> None:
    assert stretches(TURNS) == [(1.0, 9.0), (12.0, 12.4), (15.0, 20.0)]


def test_a_final_is_late_by_the_end_of_the_last_stretch_and_of_each_rest() -> None:
    take = _take(
        Shown(1.8, "", "we"),
        Shown(9.6, "we agree."),
        Shown(13.0, "we agree. mm-hm."),
        Shown(16.0, "we agree. mm-hm.", " then"),
        Shown(20.7, "we agree. mm-hm. then let us end."),
    )
    found = _found(take)
    assert found[FIRST_TEXT] == (0.8,)
    assert found[FINAL] == (0.7,)
    assert found[IN_RESTS] == (0.6, 0.6)
    assert without_final([take]) == 0
    assert symptoms([take], 2.0) == []


def test_a_murmur_alone_need_not_have_a_text() -> None:
    silent = _take(Shown(9.6, "we agree."), Shown(20.7, "we agree. then let us end."))
    assert after_rests([silent]) == [pytest.approx(0.6), None]
    # At the end of a recording the last final is that of what was said before, unless one comes after the murmur.
    at_end = (("A", 1.0, 6.0), ("B", 8.0, 8.4))
    assert _found(_take(Shown(6.6, "we agree."), turns=at_end))[FINAL] == (0.6,)
    assert _found(_take(Shown(6.6, "we agree."), Shown(9.0, "we agree. mm-hm."), turns=at_end))[FINAL] == (0.6,)
    # At the beginning the first text is late by the first stretch that is more than a murmur.
    at_begin = (("B", 1.0, 1.4), ("A", 5.0, 9.0))
    assert _found(_take(Shown(6.0, "", "we"), turns=at_begin))[FIRST_TEXT] == (1.0,)
    assert _found(_take(Shown(1.9, "", "mm"), turns=at_begin))[FIRST_TEXT] == (0.9,)


def test_talk_of_which_the_end_is_lost_has_no_time_to_final() -> None:
    lost = _take(Shown(9.6, "we agree."))
    stuck = _take(Shown(9.6, "we agree."), Shown(20.7, "we agree.", " then let us"))
    for take in (lost, stuck):
        assert _found(take)[FINAL] == ()
        assert without_final([take]) == 1
    assert [one.name for one in symptoms([stuck, _take()], 2.0)] == ["never final", "silent"]
    # Laughter and murmurs need no text.
    laughter = _take(turns=(("A", 1.0, 1.4), ("B", 18.5, 20.0)))
    assert without_final([laughter]) == 0
    assert symptoms([laughter], 2.0) == []
    # Text that is not final when somebody speaks again was not final in the rest.
    assert after_rests([_take(Shown(9.6, "we", " agree."), Shown(20.7, "we agree."))])[0] is None


def test_pipecat_s_rule_counts_every_stop_in_talk() -> None:
    take = _take(
        Shown(6.4, "we agree."),
        Shown(9.5, "we agree. yes."),
        Shown(20.5, "we agree. yes. end."),
        stops=(6.2, 9.2, 12.6, 20.3),
    )
    assert _found(take)[BY_PIPECAT] == (0.4, 0.5, 0.4)


def _sets(folder: Path) -> Path:
    for name, count in (("read", 3), ("talk", 2)):
        (folder / name).mkdir()
        lines = []
        for number in range(count):
            soundfile.write(folder / name / f"{number}.wav", np.full(1600, 0.1), 16_000)
            lines.append(json.dumps({"id": f"{name}{number}", "path": f"{number}.wav", "language": "en", "text": "a"}))
        (folder / name / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_each_stream_speaks_a_clip_of_each_set_in_turn(tmp_path: Path) -> None:
    found = clips_of(_sets(tmp_path), ["read", "talk", "read"])
    assert [clip.of_set for clip in found] == ["read", "read", "read", "talk", "talk"]
    utterances = cut(found, rate=16_000, chunk_ms=50, trailing_s=0)
    done: Run = run(Crowd(FakeAdapter(), utterances, Plan(2, duration_s=0.5, ramp_s=0.0)).speak())
    for stream in range(2):
        spoken = [take.utterance.clip.of_set for take in done.takes if take.stream == stream]
        assert len(spoken) > 3
        assert spoken == [("read", "talk")[(stream + place) % 2] for place in range(len(spoken))]


def test_sets_are_named_alike_in_all_benchmarks_of_streams() -> None:
    parser = argparse.ArgumentParser()
    add_sets_option(parser)
    assert parser.parse_args(["--set", "a", "--set", "b"]).sets == ["a", "b"]
    assert {clip.of_set for clip in clips_of(OWN, parser.parse_args([]).sets)} == {"librivox"}


def test_what_a_hostile_client_does_is_reported_by_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("nobody", 2, 2, {"librispeech": (0.5,), "conversation": (0.7,)}, 300.0, 0.01, 0.5),
        Row("controls", 2, 2, {"librispeech": (0.55,), "conversation": (0.75,)}, 300.0, 0.01, 0.5),
        Row("nobody", 2, 2, {"librispeech": (0.5,), "conversation": (0.7,)}, 300.0, 0.01, 0.5),
    ]
    output = tmp_path / "hostile.json"
    assert _report(argparse.Namespace(json=output), rows, alive=True) == 0
    shown = capsys.readouterr().out
    assert "conversation" in shown
    assert "0.75 (1)" in shown
    runs = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert runs[1]["ttfs_s"] == {"librispeech": [0.55], "conversation": [0.75]}
