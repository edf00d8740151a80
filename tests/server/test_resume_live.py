"""Sessions that outlive their connections, on a real server: who may claim them, how long they wait, what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, speech, words

pytestmark = pytest.mark.full

KEY, OTHER_KEY = "first", "second"
RESUME_S = 5.0


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    arguments = ("--api-key", KEY, "--api-key", OTHER_KEY, "--max-sessions", "2", "--resume-s", str(RESUME_S))
    with LiveServer(*arguments) as server:
        yield server


@pytest.fixture(scope="module")
def clip(librivox: Path) -> NDArray[np.int16]:
    samples = speech(min(librivox.glob("*.wav"), key=lambda path: path.stat().st_size))
    return np.concatenate([samples, np.zeros(16_000, np.int16)])


class Caller:
    """Connections of one client, and the events of its session over all of them."""

    def __init__(self, live: LiveServer, key: str = KEY) -> None:
        self._live, self._key = live, key
        self.events: list[dict[str, Any]] = []
        self.token = ""

    @property
    def seen(self) -> int:
        return max((event.get("seq", 0) for event in self.events), default=0)

    async def connect(self, token: str = "", key: str = "", **query: str) -> Conversation:
        """Open a session, or claim that of a token; the last event of the conversation is `ready` or an error."""
        options = {"resume": "claim" if token else "offer", **query}
        url = f"{self._live.url}?" + "&".join(f"{name}={value}" for name, value in options.items())
        headers = {"Authorization": f"Bearer {key or self._key}"}
        talking = Conversation(await connect(url, additional_headers=headers, ping_timeout=None))
        talking.events = self.events
        if token:
            await talking.send("resume", token=token, seq=self.seen)
        first = await talking.receive_any()
        if first["type"] == "ready":
            self.token = first["resume"]["token"]
        return talking


def lose(talking: Conversation) -> None:
    """As when the network breaks: the server gets a reset and no close."""
    talking.socket.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.02)


async def parked(live: LiveServer, count: int) -> None:
    await until(lambda: live.metric("streaming_asr_parked_sessions") == count)


def sessions(live: LiveServer) -> float:
    return live.metric('streaming_asr_sessions{protocol="/v1/stream"}')


def outcome(live: LiveServer, name: str) -> float:
    return live.metric(f'streaming_asr_resumptions_total{{outcome="{name}"}}')


def texts(caller: Caller) -> list[str]:
    return words([event["text"] for event in caller.events if event["type"] == "final"])


async def undisturbed(live: LiveServer, clip: NDArray[np.int16]) -> list[str]:
    caller = Caller(live)
    talking = await caller.connect()
    await talking.send_audio(clip, 1600)
    await talking.send("stop")
    assert await talking.receive_all() == 1000
    return texts(caller)


def test_a_sentence_is_said_over_three_connections_the_second_of_which_still_seems_open(
    live: LiveServer, clip: NDArray[np.int16]
) -> None:
    async def script() -> None:
        expected = await undisturbed(live, clip)
        before = outcome(live, "resumed"), outcome(live, "taken_over")
        caller = Caller(live)
        first = await caller.connect()
        await first.send_audio(clip[:16_000], 1600)
        await first.receive("speech_started")
        lose(first)
        await parked(live, 1)
        second = await caller.connect(caller.token)
        state = caller.events[-1]["resume"]
        assert (state["resumed"], state["controls"]) == (True, 0)
        received = state["audio_bytes"] // 2
        assert 0 < received <= 16_000
        await second.send_audio(clip[received:32_000], 1600)
        await second.send("ping", id=1)
        await second.receive("pong")

        third = await caller.connect(caller.token)
        assert caller.events[-1]["resume"] == {**state, "audio_bytes": 64_000, "controls": 1}
        assert await Conversation(second.socket).receive_all() == 1006
        await third.send_audio(clip[32_000:], 1600)
        await third.send("stop")
        assert await third.receive_all() == 1000
        assert texts(caller) == expected
        numbers = [event["seq"] for event in caller.events if event["type"] != "ready"]
        assert numbers == sorted(set(numbers))
        assert (outcome(live, "resumed"), outcome(live, "taken_over")) == (before[0] + 1, before[1] + 1)
        await parked(live, 0)

    run(script())


def test_words_that_were_in_decoding_when_the_connection_was_lost_are_there_on_return(
    live: LiveServer, clip: NDArray[np.int16]
) -> None:
    """The stop had been received; the session ends while nobody is there."""

    async def script() -> None:
        expected = await undisturbed(live, clip)
        before = live.metric("streaming_asr_audio_seconds_total")
        caller = Caller(live)
        first = await caller.connect()
        await first.send_audio(clip, 1600)
        await first.send("stop")
        await until(lambda: live.metric("streaming_asr_audio_seconds_total") > before)
        lose(first)
        await parked(live, 1)
        again = await caller.connect(caller.token)
        state = caller.events[-1]["resume"]
        await again.send_audio(clip[state["audio_bytes"] // 2 :], 1600)
        if not state["controls"]:
            await again.send("stop")
        assert await again.receive_all() == 1000
        assert texts(caller) == expected

    run(script())


def test_a_token_of_another_key_is_refused_and_an_unknown_one_opens_a_new_session(live: LiveServer) -> None:
    refused = outcome(live, "refused")

    async def script() -> None:
        caller = Caller(live)
        first = await caller.connect()
        thief = Caller(live, OTHER_KEY)
        stolen = await thief.connect(caller.token)
        assert await stolen.receive_all() == 1008
        (error,) = thief.events
        assert (error["code"], error["fatal"]) == ("unauthorized", True)
        await first.send("ping", id=1)
        await first.receive("pong")
        await first.socket.close()

        stranger = Caller(live)
        other = await stranger.connect("guessed", language="en")
        ready = stranger.events[0]
        assert ready["resume"]["resumed"] is False
        assert ready["resume"]["token"] not in ("guessed", caller.token)
        assert ready["options"]["language"] == "en"
        await other.socket.close()

    run(script())
    assert outcome(live, "refused") == refused + 1


def test_a_client_that_closes_is_not_waited_for_and_one_that_is_lost_only_for_a_time(live: LiveServer) -> None:
    async def script() -> None:
        expired = outcome(live, "expired")
        closing = Caller(live)
        await (await closing.connect()).socket.close()
        await until(lambda: sessions(live) == 0)
        again = await closing.connect(closing.token)
        assert closing.events[-1]["resume"]["resumed"] is False
        await again.socket.close()
        await until(lambda: sessions(live) == 0)

        lost = Caller(live)
        lose(await lost.connect())
        await parked(live, 1)
        assert sessions(live) == 1
        await parked(live, 0)
        assert sessions(live) == 0
        assert outcome(live, "expired") == expired + 1
        late = await lost.connect(lost.token)
        assert lost.events[-1]["resume"]["resumed"] is False
        await late.socket.close()

    run(script())


def test_a_session_whose_client_is_away_makes_room_for_one_whose_client_is_there(live: LiveServer) -> None:
    async def script() -> None:
        dropped = outcome(live, "dropped")
        sockets: list[ClientConnection] = []
        away = Caller(live)
        lose(await away.connect())
        await parked(live, 1)
        for _ in range(2):
            caller = Caller(live)
            sockets.append((await caller.connect()).socket)
            assert caller.events[0]["type"] == "ready"
        assert outcome(live, "dropped") == dropped + 1
        refused = Caller(live)
        assert await (await refused.connect()).receive_all() == 1013
        assert refused.events[0]["code"] == "busy"
        for socket in sockets:
            await socket.close()

    run(script())
