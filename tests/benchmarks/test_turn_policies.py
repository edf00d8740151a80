"""`benchmarks.turns`: rows of a data set, turns made from speech, the sweep over policies, and what is decided."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.common.speech import NoSpeech, clips
from benchmarks.turns.__main__ import main
from benchmarks.turns.decided import Decisions, Played
from benchmarks.turns.made import TAIL_S, floor_turns, rows_of
from benchmarks.turns.rows import Row, Silence, _row, read_rows
from benchmarks.turns.sweep import (
    Point,
    Scored,
    fewest_cutoffs,
    frontier,
    least_latency,
    silence_sweep,
    sweep,
)
from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.turn import Pause
from streaming_asr.turns.detectors import TURN_DETECTORS
from tests.support.live_server import LiveServer


def _pause(length_s: float, *scores: tuple[float, float]) -> Scored:
    return Scored(Silence(1, 1 + length_s, is_end=False), scores)


def _end(*scores: tuple[float, float]) -> Scored:
    return Scored(Silence(9, 13, is_end=True), scores)


def _policy(points: Sequence[Point], threshold: float, delay_s: float, timeout_s: float) -> Point:
    (found,) = (
        one for one in points if (one.threshold, one.action_delay_s, one.timeout_s) == (threshold, delay_s, timeout_s)
    )
    return found


class TestSweep:
    scored = (
        _pause(0.15),  # too short to count
        _pause(0.4, (0.2, 0.3)),
        _pause(0.9, (0.2, 0.1), (0.5, 0.8)),
        _pause(1.2),
        _pause(9.0, (0.2, 0.9)),  # too long to count
        _end((0.2, 0.9)),
        _end((0.2, 0.4), (0.7, 0.95)),
    )

    def test_a_pause_is_cut_off_by_the_score_after_the_delay_or_by_the_timeout(self) -> None:
        points = sweep(self.scored)
        # Above 0.5: the second pause from 0.5 s on, the ends from 0.2 and 0.7 s on. The timeout gets the third pause.
        assert _policy(points, 0.5, 0.2, 1.0) == Point(0.5, 0.2, 1.0, 2 / 3, pytest.approx(0.45), 1.0)
        assert _policy(points, 0.5, 1.0, 1.5).cutoff_rate == 0
        assert _policy(points, 0.5, 1.0, 1.5).mean_latency_s == pytest.approx(1.0)
        # Above 0.92: no pause, and the second end alone. The other waits for the timeout.
        late = _policy(points, 0.92, 0.2, 2.0)
        assert (late.cutoff_rate, late.mean_latency_s, late.detect_rate) == (0, pytest.approx((2.0 + 0.7) / 2), 0.5)

    def test_a_fixed_silence_is_swept_from_the_lengths_of_the_pauses_alone(self) -> None:
        points = silence_sweep(self.scored)
        assert least_latency(points, 0.05) == Point(None, 1.2, 1.2, 0.0, 1.2, 1.0)
        assert least_latency(points, 0.34) == Point(None, 0.9, 0.9, pytest.approx(1 / 3), 0.9, 1.0)
        assert fewest_cutoffs(points, 0.5) == Point(None, 0.4, 0.4, pytest.approx(2 / 3), 0.4, 1.0)

    def test_no_policy_within_a_budget_is_none(self) -> None:
        assert fewest_cutoffs(silence_sweep(self.scored), 0.1) is None
        assert least_latency(sweep([_pause(4.0), _end()]), 0.05) is None
        assert sweep([_end()]) == silence_sweep([_pause(1.0)]) == []

    def test_the_frontier_has_only_policies_that_are_quicker_or_cut_off_less(self) -> None:
        points = frontier(sweep(self.scored))
        assert [point.mean_latency_s for point in points] == sorted({point.mean_latency_s for point in points})
        assert [point.cutoff_rate for point in points] == sorted({point.cutoff_rate for point in points}, reverse=True)
        assert points[-1].cutoff_rate == 0


SPANS = [{"start": 0.5, "end": 0.8}, {"start": 1.0, "end": 1.05}, {"start": 2.0, "end": 4.0}]


class TestRows:
    def test_a_file_of_json_lines_with_paths_of_recordings(self, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
        row = {"id": 7, "language": "EN", "audio": "a.wav", "silence_spans": SPANS, "messages": []}
        (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n\n")
        (read,) = read_rows(tmp_path)
        assert (read.id, read.language) == ("7", "en")
        assert read.silences == (Silence(0.5, 0.8, is_end=False), Silence(2.0, 4.0, is_end=True))
        assert read.audio().shape == (SAMPLE_RATE,)
        assert read_rows(tmp_path / "rows.jsonl")[0].silences == read.silences

    @pytest.mark.parametrize("decoded", [True, False])
    def test_audio_within_the_row_as_parquet_has_it(self, decoded: bool) -> None:
        file = io.BytesIO()
        soundfile.write(file, np.zeros((24_000, 2)), 48_000, format="WAV")
        audio = {"array": np.zeros(24_000), "sampling_rate": 48_000} if decoded else {"bytes": file.getvalue()}
        row = _row({"id": "a", "language": "en", "audio": audio, "silence_spans": SPANS}, "here", Path())
        assert row.audio().shape == (SAMPLE_RATE // 2,)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"language": None}, "no language"),
            ({"silence_spans": []}, "no silence_spans|not a list of silences"),
            ({"silence_spans": [{"start": 1}]}, "no start and end"),
            ({"silence_spans": SPANS[::-1]}, "not in order"),
            ({"silence_spans": SPANS[:2]}, "the end of the turn, is shorter than 0.1 s"),
            ({"audio": 5}, "neither a path nor"),
        ],
    )
    def test_what_does_not_fit_the_schema_is_named_with_its_line(
        self, tmp_path: Path, change: Mapping[str, Any], message: str
    ) -> None:
        row = {"id": "a", "language": "en", "audio": "a.wav", "silence_spans": SPANS} | change
        (tmp_path / "rows.jsonl").write_text(json.dumps(row))
        with pytest.raises(NoSpeech, match=f"rows.jsonl:1.*({message})"):
            read_rows(tmp_path)

    def test_parquet_without_its_reader_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        (tmp_path / "rows.parquet").touch()
        assert main(["--data", str(tmp_path)]) == 1
        assert "pip install pyarrow" in capsys.readouterr().err


class TestMade:
    def test_a_turn_of_talk_ends_where_its_speaker_holds_the_floor_alone(self) -> None:
        segments = [
            ("A", 1.0, 3.0),
            ("A", 4.5, 6.0),  # goes on with the same turn
            ("B", 5.9, 8.0),
            ("C", 7.0, 9.0),  # so B does not end alone, but C does
            ("D", 9.5, 9.8),  # too short
            ("A", 14.0, 15.0),
            ("B", 16.0, 20.0),  # goes on after the recording
        ]
        assert floor_turns(segments, 20.0) == [(1.0, 6.0), (7.0, 9.0), (14.0, 15.0)]

    def test_a_clip_is_one_turn_that_ends_in_its_own_room(self, librivox: Path) -> None:
        clip = clips(librivox.parent, librivox.name)[0]
        (row,) = rows_of([clip])
        length_s = len(clip.audio()) / SAMPLE_RATE
        *pauses, end = row.silences
        assert end.is_end
        assert end.end_s == pytest.approx(length_s + TAIL_S)
        # The last word, by the reference, and the first silence of the reader.
        assert end.start_s == pytest.approx(clip.words[-1][2], abs=0.25)
        assert all(pause.length_s >= 0.1 and not pause.is_end for pause in pauses)
        assert len(row.audio()) == round((length_s + TAIL_S) * SAMPLE_RATE)


class TestDecided:
    row = Row(
        "a",
        "en",
        (Silence(1.0, 1.4, is_end=False), Silence(2.0, 2.6, is_end=False), Silence(5.0, 9.0, is_end=True)),
        lambda: np.zeros(0, np.float32),
    )

    def test_an_end_cuts_off_the_pause_in_which_it_was_declared_even_if_its_message_comes_a_little_later(self) -> None:
        decisions = Decisions("x", [Played(self.row, (2.75, 5.55)), Played(self.row, (3.5,))])
        assert (decisions.pauses, decisions.cut_pauses, decisions.cut_turns, decisions.missed) == (4, 1, 1, 1)
        assert decisions.waits_s == [pytest.approx(0.55)]
        first, second, end = Played(self.row, (2.75, 5.55)).scored()
        assert first.scores == ()
        assert second.scores == ((pytest.approx(0.599), 1.0),)
        assert end.scores == ((pytest.approx(0.6), 1.0),)
        points = sweep(decisions.scored())
        assert _policy(points, 0.5, 0.2, 1.0).cutoff_rate == 1 / 4
        assert _policy(points, 0.5, 0.2, 1.0).mean_latency_s == pytest.approx((0.6 + 1.0) / 2)


class Careful:
    """A turn detector that is surer after half a second."""

    asks_at_ms = (200, 500)

    def probability(self, pause: Pause) -> float:
        return 0.1 if pause.silence_ms < 500 else 0.7


@pytest.mark.full
def test_a_data_set_with_sessions_a_server_and_a_turn_detector(
    server: LiveServer,
    librivox: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = next(clip for clip in clips(librivox.parent, librivox.name) if clip.id.endswith("0880"))
    soundfile.write(tmp_path / "a.wav", np.pad(clip.audio(), (0, 6 * SAMPLE_RATE)), SAMPLE_RATE)
    spans = [{"start": 1.0, "end": 1.35}, {"start": clip.words[-1][2], "end": 8.98}]
    row = {"id": "a", "language": "en", "audio": "a.wav", "silence_spans": spans}
    data, output = tmp_path / "rows.jsonl", tmp_path / "turns.json"
    data.write_text(json.dumps(row))
    wire = ["--url", f"ws://127.0.0.1:{server.port}", "--query", "endpoint_ms=1000"]
    monkeypatch.setitem(TURN_DETECTORS, "careful", lambda options: Careful())
    sessions = ["--session", "endpoint_ms=300", "--session", "endpoint_ms=1000", "--judge", "careful"]
    assert main(["--data", str(data), "--json", str(output), *sessions, *wire]) == 0
    (made,) = json.loads(output.read_text())["sets"]
    served, quick, slow = made["decided"]
    assert made["turns"] == served["turns"] == quick["turns"] == slow["turns"] == 1
    assert served["missed"] == quick["missed"] == slow["missed"] == 0
    # The voice detector hears the last sound end up to 0.2 s away from where the reference has the end of the word.
    assert 0.1 < quick["wait_s"]["p50"] < 0.6
    assert 0.8 < slow["wait_s"]["p50"] < 1.3
    # As long as the final takes on this machine, but in the silence.
    assert 0.8 < served["wait_s"]["p50"] < 6
    pause, end = made["judged"][0]["rows"]["a"]
    assert end["text"].startswith("He was not an")
    assert (pause["alone"], end["alone"]) == ([[0.2, 0.1]], [[0.2, 0.1], [0.5, 0.7]])
    # The recognizer ends its text with a full stop.
    assert end["blended"] == [[0.2, pytest.approx(0.15)], [0.5, pytest.approx(0.75)]]
    alone = next(one for one in made["swept"] if one["name"] == "careful alone")
    assert alone["fewest_cutoffs_at_latency"]["0.6_s"]["mean_latency_s"] == 0.4
    assert "1 pauses in 1 turns" in capsys.readouterr().out
