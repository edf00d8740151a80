"""The system's clock is set back or forward: sessions, what waits for its client, keys and guesses notice nothing."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from streaming_asr.core.options import SessionOptions
from streaming_asr.server import service
from streaming_asr.server.app import Application
from streaming_asr.server.key_guesses import AT_ADDRESS
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import FakeDetector, silence, speech
from tests.support.serving import serving
from tests.support.wire import run

YEAR_S = 365 * 86_400
KEY = {"Authorization": "Bearer key"}


async def _until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 20))
        assert event["type"] != "error", event
        if event["type"] == kind:
            return event


async def _refused(url: str, key: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers={"Authorization": f"Bearer {key}"})
    return refused.value.response.status_code


@pytest.mark.parametrize("jump_s", [10 * YEAR_S, -30 * YEAR_S], ids=["ten years on", "thirty years back"])
def test_a_jump_of_the_clock_ends_nothing_and_frees_nothing(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    monkeypatch.setattr(service, "make_detector", lambda options: FakeDetector())
    utterance = (np.concatenate([speech(1.0), silence(1.0)]) * 32767).astype("<i2").tobytes()
    options = ServerOptions(api_keys=("key",), idle_timeout_s=30, session=SessionOptions(first_partial_ms=200))

    async def scenario() -> None:
        async with serving(Application(FakeRecognizer(), options)) as port:
            url, http = f"ws://127.0.0.1:{port}/v1/stream", f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient() as client:
                body = {"session": {"type": "transcription"}, "expires_after": {"anchor": "created_at", "seconds": 60}}
                secret = (
                    await client.post(f"{http}/v1/realtime/client_secrets", json=body, headers=KEY)
                ).raise_for_status()
            for number in range(AT_ADDRESS):
                assert await _refused(url, f"guess {number}") == 401
            first = await connect(f"{url}?resume=offer", additional_headers=KEY)
            token = (await _until(first, "ready"))["resume"]["token"]
            waits = await connect(f"{url}?resume=offer", additional_headers=KEY)
            parked = (await _until(waits, "ready"))["resume"]["token"]
            waits.transport.abort()
            await first.send(utterance[:32_000])
            await _until(first, "partial")

            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + jump_s)
            await first.send(utterance[32_000:])
            assert (await _until(first, "final"))["text"]
            first.transport.abort()
            for lost in (token, parked):
                async with connect(f"{url}?resume=claim", additional_headers=KEY) as again:
                    await again.send(json.dumps({"type": "resume", "token": lost, "seq": 0}))
                    assert (await _until(again, "ready"))["resume"]["resumed"]
            by_secret = {"Authorization": f"Bearer {secret.json()['value']}"}
            async with connect(f"ws://127.0.0.1:{port}/v1/realtime", additional_headers=by_secret):
                pass
            assert await _refused(url, "another guess") == 429

    run(scenario())
