"""The `openai` package: realtime transcription by its own connection objects."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from openai import AsyncOpenAI
from speaking import asked, coded, paced, pcm, pieces, report, spoken

ASKED = asked()
COMPLETED = "conversation.item.input_audio_transcription.completed"
LOGPROBS = "item.input_audio_transcription.logprobs"


def client(key: str = ASKED["key"]) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=key, base_url=ASKED["url"], max_retries=0)


async def receive(connection: Any, scenario: str, kind: str, times: int = 1) -> None:
    """Report all events until one kind has come this many times."""
    async with asyncio.timeout(60):
        while times:
            event = await connection.recv()
            report(scenario, **event.to_dict())
            times -= event.type == kind


async def append(connection: Any, data: bytes, size: int = 4800) -> None:
    for piece in pieces(data, size):
        await connection.input_audio_buffer.append(audio=coded(piece))


def audio(**audio_input: Any) -> dict[str, Any]:
    return {"type": "transcription", "audio": {"input": audio_input}}


async def vad() -> None:
    """At real time; two connections of one client at the same time; logprobs."""
    shared = client()

    async def one(scenario: str, path: str, query: dict[str, str]) -> None:
        async with shared.realtime.connect(model="gpt-4o-transcribe", extra_query=query) as connection:
            await connection.session.update(session={**audio(transcription={"language": "en"}), "include": [LOGPROBS]})

            async def speak() -> None:
                async for piece in paced(pcm(path), 48_000):
                    await connection.input_audio_buffer.append(audio=coded(piece))
                await spoken(scenario)
                await append(connection, bytes(48_000))

            await asyncio.gather(speak(), receive(connection, scenario, COMPLETED))

    first, second = ASKED["clips"]
    await asyncio.gather(one("vad 0", first, {"intent": "transcription"}), one("vad 1", second, {}))


async def manual() -> None:
    """Commits: of speech at real time, of nothing, in mid-word, and after a clear."""
    async with client().realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=audio(turn_detection=None))
        speech = pcm(ASKED["clips"][0])

        async def speak() -> None:
            async for piece in paced(speech, 48_000, 50):
                await connection.input_audio_buffer.append(audio=coded(piece))
            await spoken("commit")
            await connection.input_audio_buffer.commit()

        await asyncio.gather(speak(), receive(connection, "commit", COMPLETED))
        await connection.input_audio_buffer.commit()
        await receive(connection, "empty", COMPLETED)
        middle = ASKED["mid_word_ms"] * 48
        for scenario, part in (("first half", speech[:middle]), ("second half", speech[middle:])):
            await append(connection, part)
            await connection.input_audio_buffer.commit()
            await receive(connection, scenario, COMPLETED)
        await append(connection, speech)
        await connection.input_audio_buffer.clear()
        await connection.input_audio_buffer.commit()
        await receive(connection, "cleared", COMPLETED)
        await append(connection, bytes(5 * 48_000))
        await connection.input_audio_buffer.commit()
        await receive(connection, "silence", COMPLETED)


async def formats() -> None:
    """Rates, encodings and chunk sizes, as fast as they are taken."""
    shared = client()
    for form in ASKED["formats"]:
        async with shared.realtime.connect(model="any") as connection:
            turn = {"turn_detection": None} if form["commit"] else {}
            session = audio(format=form["format"], transcription={"language": "en"}, **turn)
            await connection.session.update(session=session)
            await append(connection, pcm(form["path"]), form["bytes_per_second"] * form["chunk_ms"] // 1000)
            if form["commit"]:
                await connection.input_audio_buffer.commit()
            await receive(connection, form["name"], COMPLETED)


async def errors() -> None:
    """Errors are reported, and the session goes on."""
    async with client().realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await receive(connection, "errors", "session.created")
        raw = connection._connection
        for bad in ("{", b"\0\0", json.dumps({"type": "sing", "event_id": "mine"})):
            await raw.send(bad)
            await receive(connection, "errors", "error")
        await connection.input_audio_buffer.append(audio="%%%")
        await receive(connection, "errors", "error")
        await connection.session.update(session=audio(transcription={"language": "xx"}))
        await receive(connection, "errors", "error")
        await append(connection, bytes(5 * 48_000))
        await append(connection, pcm(ASKED["clips"][0]) + bytes(48_000))
        await receive(connection, "errors", COMPLETED)


async def keys() -> None:
    """A key that is wrong, and one that lives shortly and brings its session's configuration."""
    try:
        async with client("wrong").realtime.connect(model="any"):
            report("wrong key", type="opened")
    except Exception as error:
        report("wrong key", type="refused", error=str(error))
    secret = await client().realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60},
        session=audio(transcription={"model": "any", "language": "en"}, turn_detection=None),
    )
    report("secret", type="issued", prefix=secret.value[:3], session=secret.session.to_dict())
    async with client(secret.value).realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await receive(connection, "secret", "session.created")


async def beta() -> None:
    """The same over the beta's connection, in the beta's words."""
    shared = AsyncOpenAI(api_key=ASKED["key"], websocket_base_url=ASKED["url"].replace("http", "ws", 1))
    query = {"intent": "transcription"}
    async with shared.beta.realtime.connect(model="any", extra_query=query) as connection:
        session = {"input_audio_format": "pcm16", "turn_detection": {"type": "server_vad", "silence_duration_ms": 400}}
        await connection.transcription_session.update(session=session)
        await append(connection, pcm(ASKED["clips"][0]) + bytes(48_000))
        await receive(connection, "beta", COMPLETED)


SCENARIOS = (vad, manual, formats, errors, keys, beta)
for chosen in SCENARIOS:
    if chosen.__name__ == ASKED["run"]:
        asyncio.run(chosen())
