"""`livekit-plugins-deepgram`: streams of both its versions, two of them at the same time from one service."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents.utils import http_context
from livekit.plugins import deepgram
from speaking import asked, paced, pcm, report, reported, two_at_a_time

ASKED = asked()
RATE = ASKED.get("rate", 16_000)


async def listen(
    service: Any, scenario: str, chunk_ms: int, path: str = ASKED["clip"], *, pace: int = 1, eager: bool = False
) -> None:
    """One stream: speech and silence after it, then the end of the input.

    Args:
        pace: how many times as fast as it would be spoken.
        eager: wait for the eager end of the turn before the silence that ends it.
    """
    stream = service.stream()

    async def push(audio: bytes) -> None:
        async for piece in paced(audio, pace * 2 * RATE, chunk_ms):
            stream.push_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))

    async def speak() -> None:
        # With the quiet at the end of the clip long enough for the eager end, and too short for the end.
        pause = bytes(RATE // 5)
        await push(pcm(path) + pause)
        if eager:
            await reported(scenario, lambda what: what["type"] == "preflight_transcript")
        await push(bytes(3 * RATE - len(pause)))
        if path == ASKED["clip"]:
            await reported(scenario, lambda what: what["type"] == "end_of_speech")
        report(scenario, type="spoken")
        stream.end_input()

    speaking = asyncio.create_task(speak())
    async for event in stream:
        text = event.alternatives[0].text if event.alternatives else ""
        words = event.alternatives[0].words or [] if event.alternatives else []
        speaker = event.alternatives[0].speaker_id if event.alternatives else None
        report(
            scenario,
            type=event.type.value,
            text=text,
            words=[[str(word), word.start_time] for word in words],
            speaker=speaker,
        )
    await speaking
    await stream.aclose()


async def main() -> None:
    async with http_context.open():
        socket = ASKED["url"].replace("http", "ws", 1)
        if "dialogue" in ASKED:
            telling_apart = deepgram.STT(
                base_url=f"{socket}/v1/listen", api_key=ASKED["key"], sample_rate=RATE, enable_diarization=True
            )
            await asyncio.wait_for(listen(telling_apart, "diarize", 100, ASKED["dialogue"], pace=4), 90)
            return
        live = deepgram.STT(base_url=f"{socket}/v1/listen", api_key=ASKED["key"], sample_rate=RATE)
        flux = deepgram.STTv2(
            base_url=f"{socket}/v2/listen", api_key=ASKED["key"], sample_rate=RATE, eager_eot_threshold=0.4
        )
        streams = [listen(live, f"live {index}", chunk_ms) for index, chunk_ms in enumerate((10, 500))]
        streams.append(listen(flux, "flux", 20, eager=ASKED.get("eager", False)))
        if "silence" in ASKED:
            streams.append(listen(live, "silence", 100, ASKED["silence"]))
        await asyncio.wait_for(two_at_a_time(streams), 120)


asyncio.run(main())
