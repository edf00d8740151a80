"""A stream that outlives its server, against servers that follow a script."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from clients.errors import ConnectionBroken, ServerRefused, ServerUnreachable, StreamEnded, StreamError
from clients.events import AudioDropped, Configured, Done, Event, Final, Ready, Reconnected, Reconnecting
from clients.reconnect import LastingStream, open_lasting_stream
from clients.retry import LONGEST_DELAY_S, Patience, backoff_s
from tests.support.fake_server import FakeConnection, FakeServer

T = TypeVar("T")
WITHIN_S = 60
SECOND = bytes(32_000)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.retry.FIRST_DELAY_S", 0.01)


def run(awaitable: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(awaitable, WITHIN_S)

    return asyncio.run(bounded())


async def all_of(stream: LastingStream) -> list[Event]:
    return [event async for event in stream]


def stream_to(server: FakeServer, **options: Any) -> Any:
    return open_lasting_stream(server.url, **options)


async def vanishes(server: FakeConnection) -> None:
    """Finals for the first two of three seconds, then the process is gone."""
    await server.ready()
    await server.receive_audio(3 * len(SECOND))
    await server.send("speech_started", utterance=1, time_ms=0)
    await server.final(1, "one", 0, 2000)
    await server.send("speech_started", utterance=2, time_ms=2100)
    await server.send(
        "partial", utterance=2, revision=1, stable="", tentative="tw", start_ms=2100, time_ms=2900, speculative=False
    )
    server.vanish()


async def goes_on(server: FakeConnection) -> None:
    await server.ready()
    await server.receive_control("stop")
    await server.final(1, "two", 100, 900)
    await server.send("done", audio_ms=len(server.audio) // 32)


def test_words_without_a_final_are_said_again_to_the_next_server() -> None:
    async def client() -> None:
        async with FakeServer(vanishes, goes_on) as server, stream_to(server) as stream:
            for value in (b"\1", b"\2", b"\3"):
                await stream.send(value * len(SECOND))
            await stream.stop()
            events = await all_of(stream)
        finals = [event for event in events if isinstance(event, Final)]
        assert [(final.utterance, final.text, final.start_ms, final.time_ms) for final in finals] == [
            (1, "one", 0, 2000),
            (2, "two", 2100, 2900),
        ]
        assert [type(event) for event in events if isinstance(event, Ready | Reconnecting | Reconnected)] == [
            Ready,
            Reconnecting,
            Reconnected,
        ]
        assert Reconnected(resent_ms=1000, lost_ms=0) in events
        assert events[-1] == Done(audio_ms=3000)
        assert bytes(server.connections[1].audio) == b"\3" * len(SECOND)

    run(client())


def test_a_server_that_is_away_for_a_while_is_found_again() -> None:
    async def client() -> None:
        async with FakeServer(vanishes) as first, stream_to(first) as stream:
            await stream.send(3 * SECOND)
            while not isinstance(event := await anext(stream), Reconnecting):
                pass
            assert event.attempt == 1
            assert "1006" in event.reason
            await first.__aexit__()
            while not (isinstance(event := await anext(stream), Reconnecting) and event.attempt == 4):
                pass
            assert event.reason.startswith("No server at ")
            async with FakeServer(goes_on, port=first.port):
                await stream.send(SECOND)
                await stream.stop()
                events = await all_of(stream)
            assert events[-1] == Done(audio_ms=4000)

    run(client())


def test_a_restart_makes_the_utterance_it_cut_anew() -> None:
    async def restarts(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_audio(len(SECOND))
        await server.send("speech_started", utterance=1, time_ms=100)
        await server.send("speech_ended", utterance=1, start_ms=100, time_ms=1000, reason="stop")
        await server.final(1, "tw", 100, 1000)
        await server.fail("restarting", 1012)

    async def client() -> None:
        async with FakeServer(restarts, goes_on) as server, stream_to(server) as stream:
            await stream.send(SECOND)
            await stream.stop()
            events = await all_of(stream)
        assert [event.text for event in events if isinstance(event, Final)] == ["two"]
        assert bytes(server.connections[1].audio) == SECOND
        reasons = [event.reason for event in events if isinstance(event, Reconnecting)]
        assert reasons == ["It is so. (restarting)"]

    run(client())


@pytest.mark.parametrize(
    ("code", "close"), [("idle", 1008), ("slow_reader", 1008), ("session_too_long", 1008), ("recognizer_failed", 1011)]
)
def test_a_session_that_a_limit_or_a_fault_ended_is_followed_by_another(code: str, close: int) -> None:
    async def ends(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_audio(len(SECOND))
        await server.fail(code, close)

    async def client() -> None:
        async with FakeServer(ends, goes_on) as server, stream_to(server) as stream:
            await stream.send(SECOND)
            await stream.stop()
            events = await all_of(stream)
        assert [event.text for event in events if isinstance(event, Final)] == ["two"]
        assert bytes(server.connections[1].audio) == SECOND

    run(client())


def test_a_cut_utterance_is_better_than_none_when_the_server_stays_away() -> None:
    async def ends(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_audio(len(SECOND))
        await server.send("speech_ended", utterance=1, start_ms=100, time_ms=1000, reason="stop")
        await server.final(1, "tw", 100, 1000)
        await server.fail("message_too_big", 1009)

    async def client() -> None:
        async with FakeServer(ends) as server, stream_to(server) as stream:
            await stream.send(SECOND)
            while not isinstance(event := await anext(stream), Final):
                pass
            assert event.text == "tw"
            with pytest.raises(ServerRefused, match="message_too_big"):
                await all_of(stream)
            assert len(server.connections) == 1
            with pytest.raises(ServerRefused, match="message_too_big"):
                await stream.send(SECOND)
            with pytest.raises(ServerRefused, match="message_too_big"):
                await stream.finalize()

    run(client())


@pytest.mark.parametrize(("code", "close"), [("bad_option", 1008), ("busy", 1013)])
def test_a_first_session_that_is_refused_is_not_asked_for_again(code: str, close: int) -> None:
    async def refuses(server: FakeConnection) -> None:
        await server.fail(code, close)

    async def client() -> None:
        async with FakeServer(refuses) as server:
            with pytest.raises(ServerRefused, match=code):
                async with stream_to(server):
                    pass
            assert len(server.connections) == 1

    run(client())


def test_no_server_at_first_is_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def client() -> None:
        with pytest.raises(ServerUnreachable, match="start one with"):
            async with open_lasting_stream(f"ws://127.0.0.1:{port}"):
                pass

    run(client())


def test_a_server_that_is_still_loading_is_waited_for() -> None:
    async def loading(server: FakeConnection) -> None:
        await server.fail("not_ready", 1013)

    async def client() -> None:
        async with FakeServer(loading, loading, goes_on) as server, stream_to(server) as stream:
            await stream.send(SECOND)
            await stream.stop()
            events = await all_of(stream)
            assert [type(event) for event in events] == [Reconnecting, Reconnecting, Ready, Final, Done]
            assert bytes(server.connections[2].audio) == SECOND

    run(client())


def test_audio_that_did_not_fit_before_the_first_session_is_reported() -> None:
    async def loading(server: FakeConnection) -> None:
        await server.fail("not_ready", 1013)

    async def client() -> None:
        async with FakeServer(loading, goes_on) as server, stream_to(server, live=True, keep_s=0.5) as stream:
            await stream.send(2 * SECOND)
            await stream.stop()
            events = await all_of(stream)
            assert [type(event) for event in events] == [Reconnecting, Ready, AudioDropped, Final, Done]
            assert events[2] == AudioDropped(start_ms=0, end_ms=1500)
            assert len(server.connections[1].audio) == len(SECOND) // 2

    run(client())


def test_a_server_that_stays_away_is_given_up() -> None:
    async def client() -> None:
        async with FakeServer(vanishes) as server, stream_to(server, give_up_after_s=0.05) as stream:
            await stream.send(3 * SECOND)
            async for event in stream:
                if isinstance(event, Reconnecting):
                    break
            await server.__aexit__()
            with pytest.raises(StreamError):
                await all_of(stream)

    run(client())


def test_a_server_that_breaks_on_the_same_audio_each_time_is_given_up() -> None:
    async def breaks(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_audio(len(SECOND))
        server.vanish()

    async def client() -> None:
        async with FakeServer(breaks) as server, stream_to(server, give_up_after_s=1.0) as stream:
            await stream.send(SECOND)
            with pytest.raises(ConnectionBroken):
                await all_of(stream)
            assert len(server.connections) > 2

    run(client())


def test_a_sender_that_can_wait_is_held_back_until_audio_is_settled() -> None:
    received, answer = asyncio.Event(), asyncio.Event()

    async def slow(server: FakeConnection) -> None:
        await server.ready()
        while len(server.audio) < 60 * len(SECOND):
            message = await server.socket.recv()
            server.audio += message if isinstance(message, bytes) else b""
        received.set()
        await answer.wait()
        await server.send("pong", id=60 * 16_000)
        await server.finish()

    async def client() -> None:
        async with FakeServer(slow) as server, stream_to(server, keep_s=60) as stream:
            sending = asyncio.create_task(stream.send(100 * SECOND))
            await received.wait()
            assert not sending.done()
            assert stream.sent_ms <= 61_000
            answer.set()
            await sending
            await stream.stop()
            assert (await all_of(stream))[-1] == Done(audio_ms=100_000)
            assert stream.settled_ms == stream.sent_ms == 100_000

    run(client())


def test_a_live_sender_never_waits() -> None:
    async def deaf(server: FakeConnection) -> None:
        await server.ready()
        await server.socket.wait_closed()

    async def client() -> None:
        async with FakeServer(deaf) as server, stream_to(server, live=True, keep_s=60) as stream:
            for _ in range(300):
                await stream.send(SECOND)
            assert stream.sent_ms == 300_000

    run(client())


def test_options_changed_in_mid_stream_hold_in_the_next_session() -> None:
    async def first(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        await server.send("configured", options={"endpoint_ms": 900})
        await server.receive_control("configure")
        server.vanish()

    async def second(server: FakeConnection) -> None:
        await server.ready()
        # The change that was not answered is asked for once more.
        await server.receive_control("configure")
        await server.send("configured", options={"language": "de"})
        await server.finish()

    async def client() -> None:
        async with FakeServer(first, second) as server, stream_to(server) as stream:
            await stream.configure(endpoint_ms=900)
            while not isinstance(await anext(stream), Configured):
                pass
            await stream.configure(language="de")
            await stream.stop()
            await all_of(stream)
            assert server.connections[1].query == {"endpoint_ms": "900", "resume": "offer"}
            assert server.connections[1].received == [{"type": "configure", "language": "de"}, {"type": "stop"}]

    run(client())


def test_options_changed_during_an_outage_are_sent_as_one_message() -> None:
    async def first(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        server.vanish()

    async def second(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        await server.send("configured", options={})
        await server.finish()

    async def client() -> None:
        async with FakeServer(first, second) as server, stream_to(server) as stream:
            await stream.configure(pause_ms=300, language="de")
            while not isinstance(await anext(stream), Reconnecting):
                pass
            for endpoint_ms in range(500, 600):
                await stream.configure(endpoint_ms=endpoint_ms)
            await stream.configure(language="fr")
            await stream.stop()
            await all_of(stream)
            changes = {"pause_ms": 300, "language": "fr", "endpoint_ms": 599}
            assert server.connections[1].received == [{"type": "configure", **changes}, {"type": "stop"}]

    run(client())


def test_a_change_made_as_soon_as_a_session_opens_is_sent_once() -> None:
    async def session(server: FakeConnection) -> None:
        await server.ready()
        await server.receive_control("configure")
        await server.send("configured", options={"language": "de"})
        await server.finish()

    async def client() -> None:
        async with FakeServer(session) as server, stream_to(server) as stream:
            await stream.configure(language="de")
            await stream.stop()
            await all_of(stream)
            assert server.connections[0].received == [{"type": "configure", "language": "de"}, {"type": "stop"}]

    run(client())


def test_a_session_without_audio_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.reconnect.KEEP_ALIVE_S", 0.02)
    pings: list[dict[str, Any]] = []

    async def waits(server: FakeConnection) -> None:
        await server.ready()
        while len(pings) < 3:
            pings.append(json.loads(await server.socket.recv()))
            await server.send("pong", id=pings[-1]["id"])
        await server.final(1, "one", 0, 0)
        await server.finish()

    async def client() -> None:
        async with FakeServer(waits) as server, stream_to(server) as stream:
            while not isinstance(await anext(stream), Final):
                pass
            await stream.stop()
            assert (await all_of(stream))[-1] == Done(audio_ms=0)

    run(client())
    assert pings == [{"type": "ping", "id": 0}] * 3


def test_nothing_can_be_sent_after_the_stop() -> None:
    async def done(server: FakeConnection) -> None:
        await server.ready()
        await server.finish()

    async def client() -> None:
        async with FakeServer(done) as server, stream_to(server) as stream:
            await stream.stop()
            await stream.stop()
            with pytest.raises(StreamEnded):
                await stream.send(SECOND)
            await all_of(stream)

    run(client())


def test_delays_are_random_and_stay_in_bounds_however_many() -> None:
    for attempt in range(1, 2000):
        assert 0 < backoff_s(attempt) <= LONGEST_DELAY_S
    assert len({backoff_s(5) for _ in range(10)}) > 1


def test_patience_counts_only_time_without_a_session() -> None:
    patience = Patience(10)
    patience.opened(0)
    assert patience.failed(100, 0) == 1
    patience.opened(106)
    assert patience.failed(200, 0) == 2
    assert patience.failed(203, 0) == 3
    assert patience.failed(205, 0) is None


def test_patience_is_renewed_by_progress() -> None:
    patience = Patience(10)
    assert patience.failed(0, 0) == 1
    patience.opened(9)
    assert patience.failed(20, 5) == 1
    assert patience.failed(29, 5) == 2
    assert patience.failed(31, 5) is None
