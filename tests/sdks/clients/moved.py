"""Clients whose server stops in mid-speech while another takes over.

All connect again by themselves, except Deepgram's SDK, whose program does.

Each speaks two sentences at real time, silence after each.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from deepgram import AsyncDeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
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
AUDIO = b"".join(map(pcm, ASKED["clips"]))
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
    async for piece in paced(AUDIO, 2 * RATE, 50):
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
            async for piece in paced(AUDIO, 2 * RATE, 50):
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


async def pipecat() -> None:
    # Imported here, since that takes seconds.
    from pipecat.services.deepgram.stt import DeepgramSTTService
    from pipecat_pipeline import listen

    def on_text(text: str, final: bool) -> None:
        understood(text)
        if final:
            report("final", text=text)

    service = DeepgramSTTService(api_key=KEY, base_url=SOCKET)
    await listen(service, "pipecat", ASKED["clips"], commit=False, on_text=on_text)


async def deepgram_sdk() -> None:
    """The program connects again, and sends again what follows the last final."""
    environment = DeepgramClientEnvironment(base=URL, production=SOCKET, agent=SOCKET, agent_rest=URL)
    client = AsyncDeepgramClient(api_key=KEY, environment=environment)
    loop = asyncio.get_running_loop()
    began, over, final_to = loop.time(), False, 0
    while not over:
        connected_at = final_to

        def on_message(message: Any, connected_at: int = connected_at) -> None:
            nonlocal final_to
            if message.type == "Results":
                text = message.channel.alternatives[0].transcript
                understood(text)
                if message.is_final:
                    report("final", text=text)
                    final_to = connected_at + 2 * round((message.start + message.duration) * RATE)

        async with client.listen.v1.connect(
            model="nova-3", encoding="linear16", sample_rate=str(RATE), interim_results="true"
        ) as connection:
            connection.on(EventType.MESSAGE, on_message)
            connection.on(EventType.ERROR, lambda error: report("closed", close_code=error.rcvd.code))
            listening = asyncio.create_task(connection.start_listening())
            try:
                for start in range(connected_at, len(AUDIO), RATE // 10):
                    piece = AUDIO[start : start + RATE // 10]
                    await asyncio.sleep(began + (start + len(piece)) / (2 * RATE) - loop.time())
                    await connection.send_media(piece)
                await connection.send_close_stream()
                over = True
            except ConnectionClosed:
                pass
            await listening


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
            case "pipecat deepgram":
                await pipecat()
            case "deepgram":
                await deepgram_sdk()


asyncio.run(main())
