"""The engine dies: nothing is lost. The server dies: no engine is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from streaming_asr.core.recognizer import DecodeFailed, DecodeJob, Health, Hypothesis, Kind, RecognizerDown
from streaming_asr.recognizers.vllm import engine as engine_module
from streaming_asr.recognizers.vllm.engine import SupervisedEngine
from streaming_asr.recognizers.vllm.health import RestartPolicy, State
from streaming_asr.recognizers.vllm.models.base import Request
from tests.vllm.engine import SAME, LiveEngine, endless, engine_processes, speech, until

SECOND = 16_000


def jobs(folder: Path) -> list[DecodeJob]:
    audio = speech(folder, 20)
    return [
        DecodeJob(id=n, kind=kind, utterance=f"speaker {n}", audio=audio[n * SECOND : (n + 9) * SECOND], language="en")
        for n, kind in enumerate([Kind.PARTIAL, Kind.FINAL, Kind.PARTIAL, Kind.SPECULATIVE])
    ]


def test_a_killed_engine_comes_back_and_says_the_same(engine: LiveEngine, librivox: Path) -> None:
    before = [engine.call(engine.recognizer.decode(job)) for job in jobs(librivox)]
    first = engine_processes(os.getpid())
    stats = engine.recognizer.stats
    engine.health.clear()

    async def kill_in_mid_decode() -> tuple[list[Any], list[Hypothesis]]:
        assert engine.recognizer._engine is not None
        generated = stats.generated_tokens
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(engine.recognizer.decode(job)) for job in jobs(librivox)]
        # It still runs at the kill, however late this process notices that the engine works.
        request = endless(engine, engine.windows(speech(librivox, 1), name="endless"))
        tasks.append(asyncio.create_task(engine.recognizer._engine.run(request, 0)))
        await until(lambda: stats.generated_tokens > generated)
        os.kill(next(process.pid for process in first if process.ppid() == os.getpid()), signal.SIGKILL)
        lost = await asyncio.gather(*tasks, return_exceptions=True)
        assert not engine.recognizer.ready
        # As the scheduler would: the same jobs again, at once. They wait for the new engine.
        return lost, await asyncio.gather(*(engine.recognizer.decode(job) for job in jobs(librivox)))

    lost, again = engine.call(kill_in_mid_decode())
    assert {type(outcome) for outcome in lost} <= {RecognizerDown, Hypothesis}
    assert any(isinstance(outcome, RecognizerDown) for outcome in lost)
    assert [one.tokens for one in again] == [one.tokens for one in before]
    for one, other in zip(again, before, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, rel=0, abs=SAME)
    assert engine.health == [Health.RECOVERING, Health.READY]
    assert engine.recognizer.ready
    _, left = psutil.wait_procs(first, timeout=60)
    assert not left


def test_an_engine_that_is_stopped_for_a_moment_loses_nothing(engine: LiveEngine, librivox: Path) -> None:
    before = [engine.call(engine.recognizer.decode(job)) for job in jobs(librivox)]
    processes = engine_processes(os.getpid())
    engine.health.clear()

    async def stop_in_mid_decode() -> list[Hypothesis]:
        for process in processes:
            process.suspend()
        tasks = [asyncio.create_task(engine.recognizer.decode(job)) for job in jobs(librivox)]
        await asyncio.wait(tasks, timeout=1)
        assert not any(task.done() for task in tasks)
        for process in processes:
            process.resume()
        return await asyncio.gather(*tasks)

    after = engine.call(stop_in_mid_decode())
    assert [one.tokens for one in after] == [one.tokens for one in before]
    assert engine.health == []
    assert engine_processes(os.getpid()) == processes


def test_an_engine_that_stays_stopped_is_noticed_ended_and_started_again(
    engine: LiveEngine, librivox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't end by itself: only SIGKILL reaches a process that is stopped."""
    before = [engine.call(engine.recognizer.decode(job)) for job in jobs(librivox)]
    first = engine_processes(os.getpid())
    engine.health.clear()

    async def stop_for_good() -> list[Hypothesis]:
        for process in first:
            process.suspend()
        with monkeypatch.context() as patched:
            patched.setattr(engine_module, "LONGEST_DECODE_S", 3.0)
            began = time.monotonic()
            tasks = [asyncio.create_task(engine.recognizer.decode(job)) for job in jobs(librivox)]
            lost = await asyncio.gather(*tasks, return_exceptions=True)
            assert time.monotonic() - began < 3.0 + 40.0
        assert {type(outcome) for outcome in lost} == {RecognizerDown}
        assert engine.health == [Health.RECOVERING]
        # As the scheduler would, whose sessions keep the audio.
        return await asyncio.gather(*(engine.recognizer.decode(job) for job in jobs(librivox)))

    again = engine.call(stop_for_good())
    assert [one.tokens for one in again] == [one.tokens for one in before]
    assert engine.health == [Health.RECOVERING, Health.READY]
    _, left = psutil.wait_procs(first, timeout=60)
    assert not left


SERVER = """
import asyncio, os, signal, sys
from pathlib import Path
from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer
from tests.vllm.engine import OPTIONS

async def main():
    recognizer = VllmRecognizer(sys.argv[1], (*OPTIONS, "--max-model-len=4096", "--max-num-seqs=16"))
    await recognizer.start()
    print("started", flush=True)
    if sys.argv[2] == "crash":
        await asyncio.to_thread(sys.stdin.readline)
        raise SystemExit(3)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["killed", "crash"])
def test_no_engine_outlives_its_server(tiny_qwen3_asr: Path, tmp_path: Path, way: str) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    server = subprocess.Popen(
        [sys.executable, str(script), str(tiny_qwen3_asr), way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    # vLLM logs there too.
    assert any(line == "started\n" for line in server.stdout)
    processes = engine_processes(server.pid)
    assert processes
    if way == "killed":
        server.kill()
    else:
        server.stdin.write("\n")
        server.stdin.flush()
    server.wait(60)
    _, left = psutil.wait_procs(processes, timeout=60)
    assert not left
    server.stdin.close()
    server.stdout.close()


class FakeLLM:
    """An engine that is dead from the start."""

    errored = True
    output_handler = None

    def shutdown(self) -> None:
        pass


def test_an_engine_that_keeps_dying_is_given_up() -> None:
    builds: list[float] = []
    states: list[State] = []

    def build() -> FakeLLM:
        builds.append(time.monotonic())
        if len(builds) == 3:
            raise RuntimeError("the device is busy")
        return FakeLLM()

    async def live() -> None:
        policy = RestartPolicy(most=4, within_s=60, first_wait_s=0.01, longest_wait_s=0.02)
        engine = SupervisedEngine(build, policy, states.append)
        await engine.start()
        await until(lambda: engine.state is State.FAILED)
        with pytest.raises(DecodeFailed, match="failed") as caught:
            await engine.run(Request({}, 1), 0)
        assert not isinstance(caught.value, RecognizerDown)
        await engine.close()

    asyncio.run(live())
    assert len(builds) == 5
    assert states == [State.READY, *[State.RESTARTING, State.READY] * 3, State.RESTARTING, State.FAILED, State.CLOSED]


class HangingLLM(FakeLLM):
    """An engine that answers only some requests.

    Args:
        answers: how many from now on.
    """

    errored = False

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.asked = 0
        self.renderer = self

    async def render_cmpl_async(self, prompts: list[Any]) -> list[Any]:
        return prompts

    async def generate(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        self.asked += 1
        self.answers -= 1
        if self.answers < 0:
            await asyncio.Event().wait()
        output = SimpleNamespace(token_ids=[], logprobs=[], finish_reason="stop")
        yield SimpleNamespace(outputs=[output], prompt_token_ids=[], num_cached_tokens=0, metrics=None)


def test_an_engine_that_finishes_nothing_is_started_again_and_loses_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "LONGEST_DECODE_S", 0.2)
    engines = [HangingLLM(0), HangingLLM(1000)]
    states: list[State] = []

    async def live() -> None:
        policy = RestartPolicy(most=4, within_s=60, first_wait_s=0.01, longest_wait_s=0.02)
        engine = SupervisedEngine(lambda: engines.pop(0), policy, states.append)
        await engine.start()
        lost = await asyncio.gather(*(engine.run(Request({}, 1), 0) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in lost] == [RecognizerDown] * 3
        # As sessions do with a job whose engine went down: they wait for the new one.
        assert (await engine.run(Request({}, 1), 0)).complete
        await engine.close()

    asyncio.run(live())
    assert states == [State.READY, State.RESTARTING, State.READY, State.CLOSED]


def test_one_request_that_takes_too_long_is_given_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "LONGEST_DECODE_S", 1.5)
    llm = HangingLLM(0)

    async def live() -> None:
        engine = SupervisedEngine(lambda: llm, RestartPolicy())
        await engine.start()
        hanging = asyncio.create_task(engine.run(Request({}, 1), 0))
        await until(lambda: llm.asked == 1)
        llm.answers = 1
        assert (await engine.run(Request({}, 1), 0)).complete
        with pytest.raises(DecodeFailed, match="did not finish") as caught:
            await hanging
        assert not isinstance(caught.value, RecognizerDown)
        assert engine.state is State.READY
        await engine.close()

    asyncio.run(live())
