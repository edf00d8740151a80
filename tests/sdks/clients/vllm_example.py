"""What vLLM's own example of a realtime client sends and waits for, over a bare WebSocket."""

from __future__ import annotations

import asyncio
import json

import websockets
from speaking import asked, coded, paced, pcm, tell

ASKED = asked()
RATE = 16_000


async def transcribe(scenario: str, *, model: str | None) -> None:
    headers = {"Authorization": f"Bearer {ASKED['key']}"}
    async with websockets.connect(
        f"{ASKED['url'].replace('http', 'ws', 1)}/realtime", additional_headers=headers
    ) as ws:
        first = json.loads(await ws.recv())
        assert first["type"] == "session.created", first
        tell(scenario, **first)
        if model is not None:
            await ws.send(json.dumps({"type": "session.update", "model": model}))
        await ws.send(json.dumps({"type": "input_audio_buffer.commit"}))

        async def send() -> None:
            async for piece in paced(pcm(ASKED["clip"]), 2 * RATE, 128):
                await ws.send(json.dumps({"type": "input_audio_buffer.append", "audio": coded(piece)}))
            tell(scenario, type="spoken")
            await ws.send(json.dumps({"type": "input_audio_buffer.commit", "final": True}))

        sending = asyncio.create_task(send())
        while True:
            message = json.loads(await asyncio.wait_for(ws.recv(), 30))
            tell(scenario, **message)
            if message["type"] in ("transcription.done", "error"):
                break
        sending.cancel()


asyncio.run(transcribe("named", model=ASKED["model"]))
asyncio.run(transcribe("older", model=None))
asyncio.run(transcribe("unknown", model="nobody/has-this"))
