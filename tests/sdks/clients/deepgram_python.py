"""The `deepgram-sdk` package: live transcription by its v1 connection, and turns by its v2 connection (Flux)."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1Configure
from deepgram.listen.v2.types import ListenV2Configure, ListenV2ConfigureThresholds
from speaking import asked, paced, pcm, pieces, report, reported, spoken

ASKED = asked()
SOCKET = ASKED["url"].replace("http", "ws", 1)
ENVIRONMENT = DeepgramClientEnvironment(base=ASKED["url"], production=SOCKET, agent=SOCKET, agent_rest=ASKED["url"])
RAW = {"encoding": "linear16", "sample_rate": "16000"}


def client(key: str = ASKED["key"]) -> AsyncDeepgramClient:
    return AsyncDeepgramClient(api_key=key, environment=ENVIRONMENT)


def report_message(scenario: str, message: Any) -> None:
    report(scenario, **json.loads(message.json()))


async def converse(scenario: str, connecting: AbstractAsyncContextManager[Any], speak: Any) -> None:
    """Receive all until the server closes."""
    async with connecting as connection:
        connection.on(EventType.MESSAGE, lambda message: report_message(scenario, message))
        connection.on(EventType.ERROR, lambda error: report(scenario, type="broken", error=str(error)))
        connection.on(EventType.CLOSE, lambda _: report(scenario, type="closed"))
        listening = asyncio.create_task(connection.start_listening())
        await speak(connection)
        await asyncio.wait_for(listening, 60)


async def say(connection: Any, path: str, bytes_per_second: int = 32_000, chunk_ms: int = 100) -> None:
    async for piece in paced(pcm(path), bytes_per_second, chunk_ms):
        await connection.send_media(piece)


async def live() -> None:
    """At real time, two streams of one client at the same time."""
    shared = client()

    async def one(scenario: str, path: str) -> None:
        wanted = {"interim_results": "true", "vad_events": "true", "utterance_end_ms": "1000", "endpointing": "10"}

        async def speak(connection: Any) -> None:
            await connection.send_keep_alive()
            await say(connection, path)
            await spoken(scenario)
            await asyncio.sleep(0.5)
            for piece in pieces(bytes(32_000 * 2), 3200):
                await connection.send_media(piece)
            await connection.send_close_stream()

        await converse(scenario, shared.listen.v1.connect(model="nova-3", language="en-US", **RAW, **wanted), speak)

    await asyncio.gather(*(one(f"live {index}", path) for index, path in enumerate(ASKED["clips"])))


async def diarize() -> None:
    """Two voices in one channel."""

    async def speak(connection: Any) -> None:
        for piece in pieces(pcm(ASKED["dialogue"]), 3200):
            await connection.send_media(piece)
        await connection.send_close_stream()

    await converse("diarize", client().listen.v1.connect(model="nova-3", **RAW, diarize="true"), speak)


async def finalize() -> None:
    """Of speech, of nothing, and in mid-word; and what is not understood."""

    async def speak(connection: Any) -> None:
        await connection.send_finalize()
        await connection._websocket.send("{no JSON")
        await connection._websocket.send('{"type":"Dance"}')
        await connection.send_configure(ListenV1Configure(keyterms=["Dashwood", "Norland"]))
        await connection.send_configure(ListenV1Configure(keyterms=["x" * 101]))
        await say(connection, ASKED["clips"][0], 320_000)
        await connection.send_finalize()
        speech = pcm(ASKED["clips"][0])
        cut = ASKED["mid_word_ms"] * 32
        for piece in pieces(speech[:cut], 3200):
            await connection.send_media(piece)
        await connection.send_finalize()
        for piece in pieces(speech[cut:], 3200):
            await connection.send_media(piece)
        await connection.send_close_stream()

    wanted = {"endpointing": "false", "punctuate": "false"}
    await converse("finalize", client().listen.v1.connect(model="any", **RAW, **wanted), speak)


async def forms() -> None:
    """Rates, encodings, chunks, and two channels."""
    for form in ASKED["forms"]:

        async def speak(connection: Any, form: dict[str, Any] = form) -> None:
            size = form["bytes_per_second"] * form["chunk_ms"] // 1000
            for piece in pieces(pcm(form["path"]), size):
                await connection.send_media(piece)
            await connection.send_close_stream()

        await converse(form["name"], client().listen.v1.connect(model="nova-3", **form["query"]), speak)


async def refusals() -> None:
    for scenario, key, query in (
        ("wrong key", "wrong", {}),
        ("bad rate", ASKED["key"], {"sample_rate": "7"}),
        ("bad encoding", ASKED["key"], {"encoding": "g729"}),
    ):
        for version in ("v1", "v2"):
            listen = getattr(client(key).listen, version)
            try:
                async with listen.connect(model="any", **{**RAW, **query}):
                    report(scenario, type="connected")
            except ApiError as error:
                report(scenario, type="refused", status=error.status_code, version=version)
    for scenario, query, sent in (
        ("language", {**RAW, "language": "xx"}, bytes(2)),
        ("container", RAW, b"OggS\0\2" + bytes(100)),
    ):

        async def speak(connection: Any, sent: bytes = sent) -> None:
            await connection.send_media(sent)

        await converse(scenario, client().listen.v1.connect(model="any", **query), speak)


async def flux() -> None:
    """Turns at real time; the eager end of the first clip's, which has a pause in it, is taken back."""
    thresholds = {"eager_eot_threshold": "0.4", "eot_threshold": "0.9"}

    def judged(what: dict[str, Any]) -> bool:
        return what.get("event") in ("EagerEndOfTurn", "EndOfTurn")

    async def speak(connection: Any) -> None:
        audio, pause = pcm(ASKED["pausing"]), ASKED["pause_ends_ms"] * 32
        for number, part in enumerate((audio[:pause], audio[pause:]), 1):
            async for piece in paced(part, 32_000):
                await connection.send_media(piece)
            await reported("flux", judged, number, within_s=5)
        await spoken("flux")
        await say(connection, ASKED["silence"])
        await connection.send_configure(
            ListenV2Configure(thresholds=ListenV2ConfigureThresholds(eot_threshold=0.6), keyterms=["Norland"])
        )
        await connection.send_configure(ListenV2Configure(thresholds=ListenV2ConfigureThresholds(eot_threshold=0.1)))
        await connection._websocket.send("{no JSON")
        await say(connection, ASKED["clips"][0])
        await connection.send_force_end_turn()
        await say(connection, ASKED["silence"])
        await connection.send_close_stream()

    connecting = client().listen.v2.connect(model="flux-general-en", keyterm=["Dashwood"], **RAW, **thresholds)
    await converse("flux", connecting, speak)


def blocking() -> None:
    """The client without asyncio."""
    connecting = DeepgramClient(api_key=ASKED["key"], environment=ENVIRONMENT).listen.v1.connect(model="nova-3", **RAW)
    with connecting as connection:
        for piece in pieces(pcm(ASKED["clips"][0]), 3200):
            connection.send_media(piece)
        connection.send_close_stream()
        for message in connection:
            report_message("blocking", message)


RUNS = {
    "live": live,
    "finalize": finalize,
    "forms": forms,
    "diarize": diarize,
    "refusals": refusals,
    "flux": flux,
}


async def main() -> None:
    for run in ASKED["run"]:
        if run == "blocking":
            await asyncio.to_thread(blocking)
        else:
            await RUNS[run]()


asyncio.run(main())
