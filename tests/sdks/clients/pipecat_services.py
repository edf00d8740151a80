"""`pipecat-ai`: its OpenAI realtime service with the server's voice detection and with its own, and Together's."""

from __future__ import annotations

import asyncio

from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.services.together.stt import TogetherSTTService
from pipecat_pipeline import listen
from speaking import asked

ASKED = asked()
SOCKET = ASKED["url"].replace("http", "ws", 1)


async def main() -> None:
    key = ASKED["key"]
    if ASKED["run"] == "together":
        await listen(TogetherSTTService(api_key=key, base_url=SOCKET), "together", ASKED["clips"], commit=True)
        return
    by_server = {"server_vad": {"type": "server_vad"}, "semantic_vad": {"type": "semantic_vad", "eagerness": "high"}}
    turn_detection = by_server.get(ASKED["run"], False)
    service = OpenAIRealtimeSTTService(
        api_key=key,
        base_url=f"{SOCKET}/realtime",
        turn_detection=turn_detection,
        settings=OpenAIRealtimeSTTService.Settings(model="gpt-transcribe"),
    )
    await listen(service, ASKED["run"], ASKED["clips"], commit=not turn_detection)


asyncio.run(main())
