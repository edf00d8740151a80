"""The load generator's parts: chunks, pace, the crowd, the search, the server's own figures, the packet log."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.common.adapters import LiveSession, Reading, SessionRefused
from benchmarks.common.session_log import Outcome
from benchmarks.common.speech import Clip
from benchmarks.load import accelerator
from benchmarks.load.accelerator import AcceleratorWatch
from benchmarks.load.crowd import Crowd, Plan, Run
from benchmarks.load.figures import figures
from benchmarks.load.options import configuration, parser
from benchmarks.load.pacing import LAG_P99_S, LAG_WORST_S, Clock, Departures, WallClock, invalid_because, lags
from benchmarks.load.packets import write_packets
from benchmarks.load.results import held
from benchmarks.load.search import Search
from benchmarks.load.server_side import ProcessWatch, difference, metrics_url, read_metrics
from benchmarks.load.speaking import Manner
from benchmarks.load.trial import Trial, Trials
from benchmarks.load.utterances import Utterance, cut
from tests.support.npu_smi import A2_TABLE
from tests.support.packet_log import read_packets
from tests.support.wire import run


def _clip(folder: Path, seconds: float, name: str = "clip") -> Clip:
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * 16_000))
    soundfile.write(folder / f"{name}.wav", samples, 16_000)
    return Clip(name, folder / f"{name}.wav", "en", "one two three")


def _utterances(folder: Path, *seconds: float) -> list[Utterance]:
    found = [_clip(folder, length, f"clip{number}") for number, length in enumerate(seconds)]
    return cut(found, rate=16_000, chunk_ms=20, trailing_s=0.0)


class FakeSession:
    """Shows how much audio it has received; does nothing else."""

    def __init__(self, slow_s: float) -> None:
        self._slow_s = slow_s
        self._readings: asyncio.Queue[Reading | None] = asyncio.Queue()
        self._received = 0

    async def send(self, pcm: bytes) -> None:
        if self._slow_s:
            await asyncio.sleep(self._slow_s)
        self._received += len(pcm)
        self._readings.put_nowait(Reading("", str(self._received)))

    async def finalize(self) -> None:
        self._readings.put_nowait(Reading("final"))

    async def finish(self) -> None:
        self._readings.put_nowait(None)

    async def readings(self) -> AsyncIterator[Reading]:
        while (reading := await self._readings.get()) is not None:
            yield reading


class FakeAdapter:
    """A server without a server.

    Args:
        slow_s: how long it holds each chunk back.
        room: sessions at once; more are refused.
    """

    def __init__(self, slow_s: float = 0.0, room: int = 10_000) -> None:
        self.name, self.sample_rate = "fake", 16_000
        self._slow_s, self._room = slow_s, room
        self.open = self.most = 0
        self.make_session = FakeSession

    @asynccontextmanager
    async def session(self, language: str) -> AsyncIterator[LiveSession]:
        if self.open >= self._room:
            raise SessionRefused("full")
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            yield self.make_session(self._slow_s)
        finally:
            self.open -= 1


def _crowd(
    utterances: list[Utterance], plan: Plan, adapter: FakeAdapter | None = None, clock: Clock | None = None
) -> Run:
    return run(Crowd(adapter or FakeAdapter(), utterances, plan, clock=clock).speak())


class FakeClock:
    """Its time passes only while all wait for it."""

    def __init__(self) -> None:
        self._now = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self._now

    async def until(self, due: float) -> None:
        over = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (due, next(self._numbers), over))
        while not over.done():
            # What another has to do before this time it does meanwhile.
            for _ in range(50):
                await asyncio.sleep(0)
            if self._waiting and self._waiting[0][2] is over:
                heapq.heappop(self._waiting)
                self._now = max(self._now, due)
                over.set_result(None)


def test_a_clip_is_cut_into_chunks_and_followed_by_silence(tmp_path: Path) -> None:
    (utterance,) = cut([_clip(tmp_path, 0.25)], rate=24_000, chunk_ms=100, trailing_s=0.15)
    assert [chunk.end_s for chunk in utterance.speech] == pytest.approx([0.1, 0.2, 0.25])
    assert [chunk.end_s for chunk in utterance.silence] == pytest.approx([0.35, 0.4])
    assert [len(chunk.pcm) for chunk in utterance.speech] == [4800, 4800, 2400]
    assert not any(utterance.silence[0].pcm)
    assert (utterance.speech_s, utterance.duration_s) == pytest.approx((0.25, 0.4))


def test_chunks_leave_when_they_have_been_spoken(tmp_path: Path) -> None:
    done = _crowd(_utterances(tmp_path, 0.4), Plan(1))
    (take,) = done.takes
    log = take.finished_log()
    assert [sent.audio_s for sent in log.sent] == pytest.approx(np.arange(1, 21) * 0.02)
    assert all(sent.at_s >= sent.audio_s for sent in log.sent)
    assert [shown.partial for shown in log.shown] == [str(640 * number) for number in range(1, 21)]
    assert all(shown.at_s >= sent.at_s for sent, shown in zip(log.sent, log.shown, strict=True))


def test_the_generator_is_not_to_blame_for_a_server_that_does_not_read(tmp_path: Path) -> None:
    done = _crowd(_utterances(tmp_path, 0.2), Plan(1), FakeAdapter(slow_s=0.05))
    departures = done.takes[0].departures
    assert departures.left_s[-1] > 0.5
    assert departures.held_s == pytest.approx(0.5, abs=0.2)
    assert np.percentile(lags([departures]), 90) < LAG_P99_S


def test_a_late_generator_makes_its_run_invalid() -> None:
    assert invalid_because(np.full(1000, 0.001)) == ""
    assert "p99 of its own lag is 0.060 s" in invalid_because(np.full(1000, 0.06))
    once = np.zeros(100_000)
    once[7] = LAG_WORST_S + 0.1
    assert "stood still for 0.600 s" in invalid_because(once)
    assert invalid_because(np.empty(0)) == ""


def test_lag_adds_up_while_the_generator_catches_up() -> None:
    departures = Departures()
    for number in range(4):
        departures.add(number * 0.05, 0.15, 0.151)
    assert list(departures.lag_s) == pytest.approx([0.15, 0.10, 0.05, 0.0])


class FakeLateClock(WallClock):
    """Wakes its callers a moment after the time."""

    async def until(self, due: float) -> None:
        await super().until(due + 1.5 * LAG_P99_S)


def test_the_lag_of_a_late_clock_is_seen_in_a_run(tmp_path: Path) -> None:
    crowd = Crowd(FakeAdapter(), _utterances(tmp_path, 0.4), Plan(1), clock=FakeLateClock())
    done = run(crowd.speak())
    assert "fell behind" in invalid_because(lags(take.departures for take in done.takes))


def test_a_busy_machine_makes_a_run_invalid(tmp_path: Path) -> None:
    """The event loop is blocked for real, again and again until the run ends."""

    async def block() -> None:
        while True:
            await asyncio.sleep(0.2)
            time.sleep(0.3)  # noqa: ASYNC251 - blocking is the point

    async def blocked() -> Trial:
        trials = Trials(FakeAdapter(), _utterances(tmp_path, 0.8), metrics_url="http://127.0.0.1:9/metrics")
        blocking = asyncio.create_task(block())
        try:
            return await trials.run(Plan(3, 0.2))
        finally:
            blocking.cancel()

    trial = run(blocked())
    assert "fell behind" in trial.invalid_because
    assert len(trial.lag_s) > 40


def test_each_clip_is_spoken_once_without_a_duration(tmp_path: Path) -> None:
    adapter = FakeAdapter()
    done = _crowd(_utterances(tmp_path, 0.1, 0.2, 0.1, 0.1, 0.2), Plan(2), adapter)
    assert sorted(take.log.clip for take in done.takes) == [f"clip{number}" for number in range(5)]
    assert adapter.most == 2
    assert len(done.measured()) == 5


def test_streams_speak_on_until_those_that_count_have_ended(tmp_path: Path) -> None:
    utterances = _utterances(tmp_path, 0.1, 0.3)
    done = _crowd(utterances, Plan(4, duration_s=0.5, seed=3))
    assert 0 < done.full_s <= 0.2
    counted = done.measured()
    assert all(take.began_s < done.full_s + 0.5 for take in counted)
    last_end = max(take.began_s + take.utterance.duration_s for take in counted)
    # Every stream was busy until then, with sessions that count or with others.
    for stream in range(4):
        ends = [take.began_s + take.utterance.duration_s for take in done.takes if take.stream == stream]
        assert max(ends) > last_end - 0.05
    assert done.load() == pytest.approx(1, abs=0.1)


def test_streams_are_out_of_phase_and_a_ramp_spreads_them(tmp_path: Path) -> None:
    utterances = _utterances(tmp_path, 0.2)
    ramped = _crowd(utterances, Plan(4, duration_s=0.1, ramp_s=0.4), clock=FakeClock())
    assert _starts(ramped) == pytest.approx([0.05, 0.15, 0.25, 0.35], abs=0.08)
    plans = (Plan(3, duration_s=0.0, seed=seed) for seed in (1, 1, 2))
    one, same, other = (_starts(_crowd(utterances, plan, clock=FakeClock())) for plan in plans)
    assert len({round(start, 2) for start in one}) == 3
    assert max(one) < 0.25
    assert one == pytest.approx(same, abs=0.03)
    assert one != pytest.approx(other, abs=0.005)


def _starts(done: Run) -> list[float]:
    """When each stream began."""
    streams = range(done.plan.streams)
    return [min(take.began_s for take in done.takes if take.stream == stream) for stream in streams]


def test_a_refused_stream_does_not_hammer(tmp_path: Path) -> None:
    done = _crowd(_utterances(tmp_path, 0.3), Plan(3, duration_s=0.3), FakeAdapter(room=2))
    outcomes = done.outcomes()
    assert outcomes[Outcome.REFUSED] == 1
    assert outcomes[Outcome.DONE] >= 2
    assert next(take for take in done.takes if take.log.outcome is Outcome.REFUSED).log.reason == "full"


def test_a_run_that_is_stopped_keeps_what_is_done(tmp_path: Path) -> None:
    async def stopped() -> Run:
        crowd = Crowd(FakeAdapter(), _utterances(tmp_path, 0.2), Plan(2, duration_s=60.0))
        asyncio.get_running_loop().call_later(0.7, crowd.stop)
        return await crowd.speak()

    done = run(stopped(), 5.0)
    assert done.interrupted
    assert done.took_s < 2
    assert len(done.measured()) >= 2
    assert not all(take.ended for take in done.takes)


def test_finalize_is_asked_for_at_the_end_of_the_clip(tmp_path: Path) -> None:
    utterances = cut([_clip(tmp_path, 0.2)], rate=16_000, chunk_ms=20, trailing_s=0.2)
    done = _crowd(utterances, Plan(1, manner=Manner(finalize=True)))
    log = done.takes[0].finished_log()
    assert log.finalize_s == pytest.approx(0.2, abs=0.05)
    assert len(log.sent) == 20
    assert "final" in [shown.final for shown in log.shown]
    without = _crowd(utterances, Plan(1))
    assert without.takes[0].log.finalize_s is None


@pytest.mark.full
def test_pipecat_s_rule_finalizes_at_its_stops_and_counts_from_0_2_s_before_the_last(
    tmp_path: Path, librivox: Path
) -> None:
    samples, _ = soundfile.read(next(librivox.glob("*0880.wav")), dtype="float32")
    said = np.concatenate([samples[:17_000], np.zeros(8_000), samples[:17_000]])
    soundfile.write(tmp_path / "said.wav", said, 16_000)
    clip = Clip("said", tmp_path / "said.wav", "en", "")
    (utterance,) = cut([clip], rate=16_000, chunk_ms=20, trailing_s=0.5, with_stops=True)
    first, second = utterance.stops_s
    assert second - first == pytest.approx(25_000 / 16_000, abs=0.07), "the same words twice"
    assert utterance.speech_s < second < utterance.duration_s

    class FakeFinalizing(FakeSession):
        """Its finals come 0.1 s after they were asked for."""

        asked = 0

        async def send(self, pcm: bytes) -> None:
            pass

        async def finalize(self) -> None:
            self.asked += 1
            text = f"final {self.asked}"
            asyncio.get_running_loop().call_later(0.1, self._readings.put_nowait, Reading(text))

        async def finish(self) -> None:
            await asyncio.sleep(0.2)
            await super().finish()

    adapter = FakeAdapter()
    adapter.make_session = FakeFinalizing
    done = _crowd([utterance], Plan(1, manner=Manner(finalize=True)), adapter)
    (take,) = done.takes
    assert [shown.final for shown in take.log.shown if shown.final] == ["final 1", "final 2"]
    found = {figure.name: figure.values for figure in figures(done.takes)}
    assert found["time to final, Pipecat's rule"] == (pytest.approx(0.3, abs=0.08),)
    assert take.log.finalize_s == pytest.approx(second, abs=0.05)


def test_clips_without_a_final_are_beyond_any_objective(tmp_path: Path) -> None:
    async def tried(*, finalize: bool) -> Trial:
        trials = Trials(FakeAdapter(), _utterances(tmp_path, 0.1), metrics_url="http://127.0.0.1:9/metrics")
        return await trials.run(Plan(1, manner=Manner(finalize=finalize)))

    # The fake gives a final only when it is asked for one.
    assert held(run(tried(finalize=True)), 5.0)
    assert not held(run(tried(finalize=True)), 1e-9)
    assert not held(run(tried(finalize=False)), 5.0)


@pytest.mark.parametrize("holds", [1, 2, 3, 7, 20, 33])
def test_the_search_finds_the_most_streams(holds: int) -> None:
    search = Search()
    while (streams := search.next()) is not None:
        search.found(streams, held=streams <= holds)
    assert search.held <= holds <= search.held * 1.05
    assert len(search.tried) <= 12


def test_the_search_ends_at_its_limit_and_at_none() -> None:
    search = Search(first=4, limit=10)
    tried = []
    while (streams := search.next()) is not None:
        tried.append(streams)
        search.found(streams, held=True)
    assert tried == [4, 8, 10]
    assert (search.held, search.missed) == (10, None)
    search = Search()
    while (streams := search.next()) is not None:
        search.found(streams, held=False)
    assert search.held == 0


_METRICS = """# TYPE streaming_asr_decodes_total counter
streaming_asr_decodes_total{{kind="final",outcome="ok"}} {final}
streaming_asr_decodes_total{{kind="partial",outcome="ok"}} 7.0
# TYPE streaming_asr_tokens_total counter
streaming_asr_tokens_total{{what="prompt"}} {prompt}
streaming_asr_tokens_total{{what="cached"}} {cached}
# TYPE streaming_asr_event_loop_lag_seconds histogram
streaming_asr_event_loop_lag_seconds_bucket{{le="0.001"}} {fast}
streaming_asr_event_loop_lag_seconds_bucket{{le="0.01"}} {all}
streaming_asr_event_loop_lag_seconds_bucket{{le="+Inf"}} {all}
# TYPE other_total counter
other_total 3
"""


def test_what_the_server_says_of_itself() -> None:
    before = read_metrics(_METRICS.format(final=2, prompt=100, cached=10, fast=5, all=5))
    after = read_metrics(_METRICS.format(final=6, prompt=300, cached=110, fast=65, all=105))
    measured = difference(before, after)
    assert measured["decodes"] == {"final": {"ok": 4.0}}
    assert measured["cached_share_of_prompt_tokens"] == 0.5
    assert measured["event_loop_lag_s"] == {"p50": 0.001, "p95": 0.01, "p99": 0.01}
    assert metrics_url("wss://host:1/v1/stream?x=1") == "https://host:1/metrics"


def test_the_cpu_and_memory_of_a_process() -> None:
    async def watched() -> dict[str, float | None]:
        watch = ProcessWatch(os.getpid())
        watching = asyncio.create_task(watch.watch())
        while not watch.rss_mib:
            sum(range(10_000))
            await asyncio.sleep(0.001)
        watching.cancel()
        return dict(watch.figures(audio_s=2.0))

    measured = run(watched())
    cpu_s, rss, cores = measured["cpu_s"], measured["rss_mib_max"], measured["cores_max"]
    assert cpu_s is not None
    assert cpu_s > 0.02
    assert measured["cpu_s_per_audio_s"] == cpu_s / 2
    assert rss is not None
    assert rss > 10
    assert cores is not None
    assert cores > 0


def test_the_accelerators_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho '0, 37, 10240'\necho '1, [N/A], 512'\necho '0, 43, 10300'\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    async def watched() -> AcceleratorWatch:
        watch = AcceleratorWatch()
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(watch.watch(), 1.5)
        return watch

    assert AcceleratorWatch.possible()
    assert run(watched()).figures() == {
        "0": {"busy_percent_mean": 40.0, "busy_percent_max": 43.0, "memory_mib_max": 10300.0},
        "1": {"busy_percent_mean": None, "busy_percent_max": None, "memory_mib_max": 512.0},
    }


def test_the_npus_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fake of Ascend's tool, which prints what the real one does: at first of idle chips, then of a busy one."""
    idle, busy = tmp_path / "idle", tmp_path / "busy"
    idle.write_text(A2_TABLE)
    busy.write_text(A2_TABLE.replace("0           0    / 0          3379", "80          0    / 0          4000"))
    fake = tmp_path / "npu-smi"
    fake.write_text(f"#!/bin/sh\n/bin/cat '{idle}'\n/bin/mv -f '{busy}' '{idle}' 2>/dev/null\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(accelerator, "_PAUSE_S", 0.01)

    async def watched() -> AcceleratorWatch:
        watch = AcceleratorWatch()
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(watch.watch(), 1.5)
        return watch

    assert AcceleratorWatch.possible()
    measured = run(watched()).figures()
    assert measured["0"]["busy_percent_max"] == 80
    assert 0 < (measured["0"]["busy_percent_mean"] or 0) < 80
    assert measured["0"]["memory_mib_max"] == 4000
    assert measured["1"] == {"busy_percent_mean": 0.0, "busy_percent_max": 0.0, "memory_mib_max": 56152.0}


def test_the_packet_log_gives_the_sessions_back(tmp_path: Path) -> None:
    done = _crowd(_utterances(tmp_path, 0.1, 0.1), Plan(2))
    file = tmp_path / "packets.jsonl"
    write_packets(file, [(2, done.takes)])
    assert read_packets(file) == {2: [take.finished_log() for take in done.takes]}


def test_the_key_is_not_written_down() -> None:
    options = parser().parse_args(["--api-key", "secret", "--query", "endpoint_ms=300"])
    measured = configuration(options)
    assert measured["api_key"] is True
    assert "secret" not in str(measured)
    assert measured["query"] == {"endpoint_ms": "300"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--streams", "0"), "'0' is not a whole number of at least 1"),
        (("--duration", "-1"), "'-1' is not a number of seconds"),
        (("--query", "endpoint"), "'endpoint' is not NAME=VALUE"),
        (("--protocol", "telepathy"), "invalid choice: 'telepathy'"),
    ],
)
def test_bad_options_are_reported(arguments: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)
    assert message in capsys.readouterr().err
