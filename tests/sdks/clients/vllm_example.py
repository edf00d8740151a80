"""What vLLM's own example of a realtime client sends and waits for, over a bare WebSocket."""

from __future__ import annotations

import asyncio
import json

import websockets
from speaking import asked, coded, paced, pcm, report, spoken, two_at_a_time

ASKED = asked()
RATE = 16_000


async def transcribe(
    scenario: str, *, model: str | None, chunk_ms: int = 128, path: str | None = None, logprobs: bool = False
) -> None:
    headers = {"Authorization": f"Bearer {ASKED['key']}"}
    async with websockets.connect(
        f"{ASKED['url'].replace('http', 'ws', 1)}/realtime", additional_headers=headers
    ) as ws:
        first = json.loads(await ws.recv())
        assert first["type"] == "session.created", first
        report(scenario, **first)
        if model is not None:
            include = {"include": ["item.input_audio_transcription.logprobs"]} if logprobs else {}
            await ws.send(json.dumps({"type": "session.update", "model": model, **include}))
        if logprobs:  # Of the releases that acknowledge it.
            report(scenario, **json.loads(await asyncio.wait_for(ws.recv(), 60)))
        await ws.send(json.dumps({"type": "input_audio_buffer.commit"}))

        async def send() -> None:
            async for piece in paced(pcm(path or ASKED["clip"]), 2 * RATE, chunk_ms):
                await ws.send(json.dumps({"type": "input_audio_buffer.append", "audio": coded(piece)}))
            if path is None:
                await spoken(scenario)
            await ws.send(json.dumps({"type": "input_audio_buffer.commit", "final": True}))

        sending = asyncio.create_task(send())
        while True:
            message = json.loads(await asyncio.wait_for(ws.recv(), 60))
            report(scenario, **message)
            if message["type"] in ("transcription.done", "error"):
                break
        sending.cancel()


async def main() -> None:
    model = ASKED["model"]
    streams = (
        transcribe("named", model=model),
        transcribe("older", model=None),
        transcribe("unknown", model="nobody/has-this"),
        transcribe("10 ms", model=model, chunk_ms=10),
        transcribe("500 ms", model=model, chunk_ms=500, logprobs=True),
        transcribe("silence", model=model, path=ASKED["silence"]),
        transcribe("nothing", model=model, path=ASKED["nothing"]),
    )
    await two_at_a_time(streams)


asyncio.run(main())
