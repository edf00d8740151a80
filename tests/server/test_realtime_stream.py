"""OpenAI's realtime protocol on the real server, beyond what the packages do: near silence, limits, long speech."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, speech, talk, words

COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"


def _url(server: LiveServer) -> str:
    return f"{server.http_url.replace('http', 'ws', 1)}/v1/realtime?intent=transcription"


def _sentences(librivox: Path) -> list[tuple[NDArray[np.int16], str]]:
    entries = map(json.loads, (librivox / "manifest.jsonl").read_text().splitlines())
    return [(speech(librivox / entry["path"], 24_000), entry["text"]) for entry in entries]


async def _update(talking: Conversation, **audio_input: Any) -> None:
    await talking.send("session.update", session={"type": "transcription", "audio": {"input": audio_input}})


async def _append(talking: Conversation, samples: NDArray[np.int16], chunk: int = 24_000) -> None:
    for start in range(0, len(samples), chunk):
        data = samples[start : start + chunk].tobytes()
        await talking.send("input_audio_buffer.append", audio=base64.b64encode(data).decode())


def _wer(text: str, reference: str) -> float:
    return float(jiwer.wer(" ".join(words(reference)), " ".join(words(text)) or "-"))


def test_quiet_speech_that_is_committed_is_transcribed(server: LiveServer, librivox: Path) -> None:
    samples, reference = _sentences(librivox)[-1]
    quiet = (samples * 0.01).astype(np.int16)

    async def script(talking: Conversation) -> None:
        await _update(talking, turn_detection=None)
        await _append(talking, quiet)
        await talking.send("input_audio_buffer.commit")
        assert _wer((await talking.receive(COMPLETED))["transcript"], reference) <= 0.35

    run(talk(_url(server), script))


@pytest.mark.parametrize("level", [0, 30])
def test_a_commit_of_silence_is_empty(server: LiveServer, level: int) -> None:
    hiss = np.random.default_rng(0).normal(0, level, 24_000 * 5).astype(np.int16)

    async def script(talking: Conversation) -> None:
        await _update(talking, turn_detection=None)
        await _append(talking, hiss)
        await talking.send("input_audio_buffer.commit")
        assert (await talking.receive(COMPLETED))["transcript"] == ""

    run(talk(_url(server), script))


def test_a_commit_of_more_than_the_recognizer_takes_at_once_is_one_item(server: LiveServer, librivox: Path) -> None:
    """With pauses within, too: all of it is one transcript, and its deltas say the same words."""
    sentences = _sentences(librivox)
    pause = np.zeros(48_000, np.int16)
    audio = np.concatenate([part for samples, _ in sentences * 2 for part in (samples, pause)])
    reference = " ".join(text for _, text in sentences * 2)

    async def script(talking: Conversation) -> None:
        await _update(talking, turn_detection=None)
        await _append(talking, audio)
        await talking.send("input_audio_buffer.commit")
        completed = await talking.receive(COMPLETED)
        assert _wer(completed["transcript"], reference) <= 0.2
        deltas = "".join(event["delta"] for event in talking.of(DELTA))
        assert _wer(deltas, completed["transcript"]) <= 0.1
        assert {event["item_id"] for event in talking.of(DELTA)} == {completed["item_id"]}

    assert len(audio) > 30 * 24_000
    run(talk(_url(server), script))


def test_the_format_and_turn_detection_change_in_mid_stream(server: LiveServer, librivox: Path) -> None:
    samples, reference = _sentences(librivox)[-1]
    slow = samples[::3]

    async def script(talking: Conversation) -> None:
        await _append(talking, np.concatenate([samples, np.zeros(24_000, np.int16)]))
        first = await talking.receive(COMPLETED)
        await _update(talking, format={"type": "audio/pcm", "rate": 8000}, turn_detection=None)
        await _append(talking, slow)
        await talking.send("input_audio_buffer.commit")
        second = await talking.receive(COMPLETED)
        assert _wer(first["transcript"], reference) <= 0.2
        assert _wer(second["transcript"], reference) <= 0.35
        assert [event["previous_item_id"] for event in talking.of("input_audio_buffer.committed")] == [
            None,
            first["item_id"],
        ]

    run(talk(_url(server), script))


@pytest.mark.full
def test_a_silent_client_may_stay_and_a_message_too_big_ends_the_session(librivox: Path) -> None:
    samples, reference = _sentences(librivox)[-1]

    async def script(talking: Conversation) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(talking.receive("error"), 1.5)
        await _append(talking, samples)
        await talking.send("input_audio_buffer.append", audio="A" * 100_000)
        assert await talking.receive_all() == 1009
        error = talking.of("error")[0]["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "message_too_big")
        assert _wer(talking.of(COMPLETED)[-1]["transcript"], reference) <= 0.2

    with LiveServer("--max-message-bytes", "90000", "--idle-timeout-s", "1") as live:
        run(talk(_url(live), script))
