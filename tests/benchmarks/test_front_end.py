"""The benchmark of everything but the recognizer: what it plays and counts, and what it says when things go wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common.speech import OWN, clips
from benchmarks.front_end.__main__ import main
from benchmarks.front_end.crowding import DECODE_S, SLOTS, measure_crowding
from benchmarks.front_end.lag import PROBE_S, LagProbe, Spread, spread
from benchmarks.front_end.material import Material, speech_loop, wire_material
from benchmarks.front_end.process import Child, ChildFailed, answer, run
from benchmarks.front_end.stages import drive, measure_length, measure_stages
from benchmarks.front_end.trial import CROWD_LATE_MS, LAG_OBJECTIVE_MS, WAIT_OBJECTIVE_MS, Setting, Step, Trial
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE

pytestmark = pytest.mark.full

CORES = sorted(os.sched_getaffinity(0))
SETTING = Setting(seconds=1.5, server_core=CORES[0], crowd_core=CORES[-1])


@pytest.fixture(scope="module")
def material() -> Material:
    """Half a minute of real speech with pauses."""
    return wire_material(speech_loop([clip.audio() for clip in clips(OWN, "librivox")], 0.5, 30), SAMPLE_RATE, 100)


def test_the_loop_has_as_much_speech_as_asked_for() -> None:
    said = np.full(SAMPLE_RATE, 0.5, np.float32)
    loop = speech_loop([said, -said], 0.25, 60)
    assert len(loop) == 60 * SAMPLE_RATE
    assert np.count_nonzero(np.abs(loop) == 0.5) == 15 * SAMPLE_RATE


@pytest.mark.parametrize(("rate", "chunk_ms"), [(8_000, 20), (16_000, 100), (48_000, 50)])
def test_chunks_have_their_length_at_any_rate(rate: int, chunk_ms: int) -> None:
    made = wire_material(np.zeros(SAMPLE_RATE, np.float32), rate, chunk_ms)
    assert {len(chunk) for chunk in made.chunks} == {rate * chunk_ms // 1000 * 2}
    assert made.seconds == 1.0


def test_a_stall_of_the_loop_counts_for_every_moment_that_it_covers() -> None:
    async def stalled() -> Spread:
        probe = LagProbe()
        probing = asyncio.create_task(probe.run())
        await asyncio.sleep(3 * PROBE_S)
        time.sleep(20 * PROBE_S)  # noqa: ASYNC251 - blocking is the point
        await asyncio.sleep(3 * PROBE_S)
        probing.cancel()
        return probe.take()

    lag = asyncio.run(stalled())
    assert lag.count >= 25
    assert lag.max >= 18_000 * PROBE_S
    # Of some 26 moments 20 were within the stall, and half of those were late by more than half of it.
    assert lag.p50 >= 3_000 * PROBE_S


def test_percentiles_are_in_milliseconds() -> None:
    assert spread([0.001] * 99 + [0.5]).p50 == pytest.approx(1.0)
    assert spread([0.001] * 99 + [0.5]).max == pytest.approx(500.0)
    assert spread([]) == Spread()


def test_a_session_does_the_same_work_in_every_minute(material: Material) -> None:
    first, *later = measure_length(material, SessionOptions(), 4)
    assert first.frames in (1874, 1875)
    for minute in later:
        assert minute.frames == 1875
        assert abs(minute.jobs - later[0].jobs) <= 2
        assert abs(minute.messages - later[0].messages) <= 2
        # Less, as the gate gets to know the room.
        assert minute.asked <= 1.1 * first.asked
        assert minute.held_s < 10
    assert first.messages > 20


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_every_stage_is_timed(rate: int) -> None:
    audio = speech_loop([clip.audio() for clip in clips(OWN, "librivox")], 0.5, 20)
    stages = measure_stages(wire_material(audio, rate, 100), SessionOptions(), together=4, repeats=1)
    assert min(stages.decode, stages.gate, stages.network, stages.session, stages.schedule, stages.protocol) > 0
    assert (stages.resample > 0) == (rate != SAMPLE_RATE)
    assert 0.3 < stages.speech_share < 0.8


def test_a_full_recognizer_leaves_sessions_wanting(material: Material) -> None:
    few, many = measure_crowding(material, 10, seconds=2), measure_crowding(material, 600, seconds=2)
    assert few.wanting < 0.01
    assert many.wanting > 0.05
    assert few.decodes_per_s < many.decodes_per_s <= SLOTS / DECODE_S * 1.1
    assert few.schedule_ms > 0


def test_a_few_sessions_end_to_end(material: Material) -> None:
    with Trial(SETTING, material) as trial:
        first, again = trial.steps([3, 3], lambda _: None, until_lost=False)
        end = trial.farewell()
    for step in (first, again):
        assert step.sessions == 3
        assert not step.failures
        # The server counts each session's audio in whole seconds.
        assert 3 <= step.audio_s <= 9
        assert step.cpu_ms > 0
        assert step.lag_ms.count > 100
        assert 0 < step.wait_ms <= WAIT_OBJECTIVE_MS
        assert step.crowd_lag_ms.count > 30
    assert again.age_s > first.age_s
    assert again.messages_per_s + first.messages_per_s > 0
    assert end.sessions == end.done == 3
    assert end.lost_s == pytest.approx(0, abs=0.01)


def test_sessions_that_are_refused_do_not_hold(material: Material) -> None:
    with Trial(dataclasses.replace(SETTING, query="vad=ears", seconds=0.5), material) as trial:
        (step,) = trial.steps([2], lambda _: None, until_lost=True)
    assert step.failures == ("the server sent an error: bad_option",) * 2
    assert not step.holds


def test_a_server_that_answers_no_more_does_not_hold(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.front_end.trial._ANSWER_WITHIN_S", 0.5)
    monkeypatch.setattr("benchmarks.front_end.process.END_WITHIN_S", 0.5)
    with Trial(dataclasses.replace(SETTING, seconds=0.5), material) as trial:
        steps = trial.steps([1, 1, 1], lambda _: None, until_lost=False)
        assert not next(steps).failures
        server = next(child for child in multiprocessing.active_children() if child.name == "server")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        (lost,) = steps
    assert "did not answer" in lost.failures[0]
    assert lost.verdict == "does not hold"


FINE = Step(
    sessions=10,
    age_s=10,
    audio_s=100,
    cpu_ms=1,
    core_share=0.1,
    others_share=0,
    memory_kib=100,
    lag_ms=Spread(1, 1, 1, 1, 1000),
    wait_ms=10,
    processed_share=1,
    unsent_bytes=0,
    crowd_lag_ms=Spread(1, 1, 1, 1, 1000),
    crowd_core_share=0.1,
    messages_per_s=1,
    decodes_per_s=1,
    failures=(),
)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "holds"),
        ({"lag_ms": Spread(p99=LAG_OBJECTIVE_MS)}, "does not hold"),
        ({"wait_ms": WAIT_OBJECTIVE_MS + 50}, "late"),
        ({"processed_share": 0.97}, "does not hold"),
        ({"failures": ("gone",)}, "does not hold"),
        ({"crowd_lag_ms": Spread(p99=CROWD_LATE_MS + 1)}, "INVALID"),
    ],
)
def test_verdicts(changes: dict[str, object], verdict: str) -> None:
    assert dataclasses.replace(FINE, **changes).verdict == verdict  # type: ignore[arg-type]


def _leaves(pipe: Connection) -> None:
    sys.exit(3)


def _ignores(pipe: Connection) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("child", "message"), [(_leaves, "ended with status 3"), (_ignores, "gave no answer within 0.2 s")]
)
def test_a_child_that_fails_is_named(
    child: Callable[[Connection], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.front_end.process.END_WITHIN_S", 0.1)
    with Child("server", child) as asked, pytest.raises(ChildFailed, match=f"the server {message}"):
        asked.ask("anything", within_s=0.2 if child is _ignores else 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cores", "0", "977"], "no core 977"),
        (["--cores", str(CORES[0]), str(CORES[0])], "two cores are needed"),
        (["--set", "no-such-set"], "no-such-set"),
        (["--sample-rate", "7"], "sample_rate"),
        (["--seconds", "0"], "out of range"),
        (["--sessions", "0"], "of at least 1"),
        (["--speech-share", "2"], "out of range"),
    ],
)
def test_what_can_not_be_run_is_said_plainly(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code != 0
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly_and_keeps_what_was_measured(tmp_path: Path, stop: int) -> None:
    written = tmp_path / "front_end.json"
    command = [sys.executable, "-m", "benchmarks.front_end", "--only", "sessions", "--seconds", "0.5"]
    command += ["--cores", str(CORES[0]), str(CORES[-1]), "--json", str(written), "--sessions", *["1"] * 100]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stderr is not None
    # Where few open files are allowed, the server warns first.
    assert any(line.startswith("1 sessions: ") for line in running.stderr)
    # Ctrl-C reaches all processes, SIGTERM the first.
    if stop == signal.SIGINT:
        os.killpg(running.pid, stop)
    else:
        running.send_signal(stop)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "Traceback" not in out + err
    assert "Interrupted" in out
    figures = json.loads(written.read_text())
    assert figures["steps"][0]["sessions"] == 1
    assert figures["configuration"]["chunk_ms"] == 100


def _says_much(pipe: Connection) -> None:
    async def saying() -> None:
        ended = asyncio.Event()
        answer(pipe, lambda question: b"x" * question, ended.set)
        await ended.wait()

    run(saying())


def test_an_answer_longer_than_the_pipe_comes_whole() -> None:
    with Child("server", _says_much) as asked:
        assert len(asked.ask(10_000_000)) == 10_000_000
        assert len(asked.ask(3)) == 3


def test_sessions_together_do_the_work_of_each_alone(material: Material) -> None:
    """What is asked, decoded and sent does not grow with the number of sessions."""
    options = SessionOptions()
    alone = [next(drive(turned(material, place), options, 10.0)) for place in (0, 100, 200)]
    together = next(drive(material, options, 10.0, together=3))
    assert together.frames == sum(work.frames for work in alone)
    assert together.asked == sum(work.asked for work in alone)
    assert together.jobs == sum(work.jobs for work in alone)
    assert together.messages == sum(work.messages for work in alone)


def turned(material: Material, place: int) -> Material:
    """The loop, begun elsewhere."""
    return dataclasses.replace(material, chunks=material.chunks[place:] + material.chunks[:place])
