"""`pipecat-ai`: its OpenAI realtime service with the server's voice detection and with its own, and Together's."""

from __future__ import annotations

import asyncio

from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.services.together.stt import TogetherSTTService
from pipecat_pipeline import listen
from speaking import asked, two_at_a_time

ASKED = asked()
SOCKET = ASKED["url"].replace("http", "ws", 1)


async def run(which: str) -> None:
    key = ASKED["key"]
    if which == "together":
        await listen(TogetherSTTService(api_key=key, base_url=SOCKET), "together", ASKED["clips"], commit=True)
        return
    by_server = {"server_vad": {"type": "server_vad"}, "semantic_vad": {"type": "semantic_vad", "eagerness": "high"}}
    turn_detection = by_server.get(which, False)
    service = OpenAIRealtimeSTTService(
        api_key=key,
        base_url=f"{SOCKET}/realtime",
        turn_detection=turn_detection,
        settings=OpenAIRealtimeSTTService.Settings(model="gpt-transcribe"),
    )
    await listen(service, which, ASKED["clips"], commit=not turn_detection)


asyncio.run(two_at_a_time(map(run, ASKED["runs"])))
