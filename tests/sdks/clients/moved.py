"""Clients that connect again by themselves, whose server stops in mid-speech while another takes over.

Each speaks two sentences at real time, silence after each.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents.utils import http_context
from livekit.plugins import deepgram
from livekit.plugins import openai as livekit_openai
from openai import AsyncOpenAI
from openai.types.websocket_reconnection import ReconnectingEvent, ReconnectingOverrides
from speaking import asked, coded, paced, pcm, report
from websockets.exceptions import ConnectionClosed

ASKED = asked()
URL, KEY = ASKED["url"], ASKED["key"]
SOCKET = URL.replace("http", "ws", 1)
RATE = 16_000
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
LAST_WORDS_S = 12.0
"""After the audio, for the last transcript."""
FEW_WORDS = 3


def understood(text: str) -> None:
    """Notify the test once the first words have come."""
    if len(text.split()) >= FEW_WORDS:
        (Path(ASKED["folder"]) / f"{ASKED['run']}.understood").touch()


async def livekit(service: Any) -> None:
    stream = service.stream()

    async def listen() -> None:
        async for event in stream:
            if event.type.value in ("interim_transcript", "final_transcript"):
                understood(event.alternatives[0].text)
            if event.type.value == "final_transcript":
                report("final", text=event.alternatives[0].text)

    listening = asyncio.create_task(listen())
    async for piece in paced(pcm(ASKED["clip"]), 2 * RATE, 50):
        stream.push_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
    stream.end_input()
    # Not every service ends its stream.
    await asyncio.wait({listening}, timeout=LAST_WORDS_S)
    await stream.aclose()
    await listening


async def openai() -> None:
    """By the SDK's own reconnection, which a program asks for by its handler."""
    client = AsyncOpenAI(api_key=KEY, base_url=URL, max_retries=0)
    fmt = {"type": "audio/pcm", "rate": RATE}
    session: Any = {"type": "transcription", "audio": {"input": {"format": fmt}}}

    def reconnecting(event: ReconnectingEvent) -> ReconnectingOverrides | None:
        report("reconnecting", close_code=event.close_code)
        return None

    connecting = client.realtime.connect(extra_query={"intent": "transcription"}, on_reconnecting=reconnecting)
    async with connecting as connection:
        updated = asyncio.Event()

        async def speak() -> None:
            async for piece in paced(pcm(ASKED["clip"]), 2 * RATE, 50):
                while True:
                    try:
                        await connection.input_audio_buffer.append(audio=coded(piece))
                        break
                    except ConnectionClosed:
                        # The SDK keeps what is sent while it connects again, but it has to notice first.
                        await asyncio.sleep(0.05)

        async def listen() -> None:
            text = ""
            async for event in connection:
                if event.type == "session.created":
                    # Each connection is a new session, which has the server's defaults.
                    await connection.session.update(session=session)
                elif event.type == "session.updated":
                    updated.set()
                elif event.type == DELTA:
                    text += event.delta
                    understood(text)
                elif event.type == COMPLETED:
                    report("final", text=event.transcript)

        listening = asyncio.create_task(listen())
        await updated.wait()
        await speak()
        await asyncio.wait({listening}, timeout=LAST_WORDS_S)
        listening.cancel()


async def begin() -> None:
    """Wait for the others, so that all speak at the same time: to import a client takes seconds."""
    folder = Path(ASKED["folder"])
    (folder / f"{ASKED['run']}.here").touch()
    while len(list(folder.glob("*.here"))) < ASKED["clients"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def main() -> None:
    await begin()
    async with http_context.open():
        match ASKED["run"]:
            case "livekit deepgram":
                await livekit(deepgram.STT(base_url=f"{SOCKET}/v1/listen", api_key=KEY, sample_rate=RATE))
            case "livekit flux":
                await livekit(deepgram.STTv2(base_url=f"{SOCKET}/v2/listen", api_key=KEY, sample_rate=RATE))
            case "livekit openai":
                await livekit(livekit_openai.STT(base_url=URL + "/v1", api_key=KEY, use_realtime=True))
            case "openai":
                await openai()


asyncio.run(main())
