"""`livekit-plugins-openai`: realtime speech to text, twice from one pool of connections."""

from __future__ import annotations

import asyncio

from livekit import rtc
from livekit.agents import stt
from livekit.agents.utils import http_context
from livekit.plugins import openai
from speaking import asked, paced, pcm, report, spoken

ASKED = asked()
RATE = ASKED.get("rate", 16_000)


async def listen(service: openai.STT, scenario: str, path: str, chunk_ms: int) -> None:
    """One stream: speech at real time, then silence until its final has come. The service leaves its connection open,
    so its reader closes the stream."""
    stream = service.stream()
    final = ended = False

    async def speak() -> None:
        async for piece in paced(pcm(path), 2 * RATE, chunk_ms):
            stream.push_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
        await spoken(scenario)
        while True:
            silence = bytes(RATE // 5)
            stream.push_frame(rtc.AudioFrame(silence, RATE, 1, len(silence) // 2))
            await asyncio.sleep(0.1)

    speaking = asyncio.create_task(speak())
    async for event in stream:
        text = event.alternatives[0].text if event.alternatives else ""
        language = event.alternatives[0].language if event.alternatives else ""
        report(scenario, type=event.type.value, text=text, language=str(language))
        final = final or event.type is stt.SpeechEventType.FINAL_TRANSCRIPT
        ended = ended or event.type is stt.SpeechEventType.END_OF_SPEECH
        if final and ended:
            break
    speaking.cancel()
    await stream.aclose()


async def be_silent(service: openai.STT) -> None:
    """A stream without speech; then the client leaves."""
    stream = service.stream()

    async def receive() -> None:
        async for event in stream:
            report("silence", type=event.type.value)

    receiving = asyncio.create_task(receive())
    async for piece in paced(bytes(4 * RATE), 2 * RATE):
        stream.push_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
    await stream.aclose()
    await receiving
    report("silence", type="left")


async def main() -> None:
    async with http_context.open():
        service = openai.STT(
            **({"model": ASKED["model"]} if "model" in ASKED else {}),
            base_url=ASKED["url"],
            api_key=ASKED["key"],
            language="en",
            use_realtime=True,
        )
        for index, chunk_ms in enumerate((10, 500)):
            await asyncio.wait_for(listen(service, str(index), ASKED["clip"], chunk_ms), 80)
        if ASKED.get("silence"):
            await be_silent(service)
        await service.aclose()


asyncio.run(main())
