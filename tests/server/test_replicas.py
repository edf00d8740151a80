"""A server of several replicas: who gets a client, what a death takes with it, what they know of each other."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from clients.events import Done, Final, Reconnected
from clients.reconnect import LastingStream, open_lasting_stream
from tests.support.fake_serve import MISSING
from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, speech

pytestmark = pytest.mark.full

FAKE = "tests.support.fake_serve"
OPTIONS = ("--replicas", "2", "--vad", "webrtc", "--endpoint-ms", "300")
KEY = "secret"
HEADERS = {"Authorization": f"Bearer {KEY}"}
EACH = 2
"""Sessions of a replica."""


class Replicated(LiveServer):
    """A server of two replicas that read without speech."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*OPTIONS, *arguments, model=None, module=FAKE)

    def start(self, *, wait_ready: bool = True) -> LiveServer:
        super().start()
        self.wait_for("replica 2: Ready")
        self.await_statuses(ready=2)
        return self

    def statuses(self) -> dict[str, str]:
        _, answer = self.get("/readyz")
        statuses: dict[str, str] = json.loads(answer)["replicas"]
        return statuses

    def await_statuses(self, ready: int) -> None:
        deadline = time.monotonic() + 60
        while list(self.statuses().values()).count("ready") != ready:
            assert time.monotonic() < deadline, self.statuses()
            time.sleep(0.05)


def process_of(server: LiveServer, replica: int) -> int:
    """The process that a replica has now."""
    return [int(found) for found in re.findall(rf"Replica {replica} is process (\d+)", "".join(server.log))][-1]


@pytest.fixture(scope="module")
def replicated() -> Iterator[Replicated]:
    with Replicated("--max-sessions", str(EACH), "--api-key", KEY) as server:
        assert isinstance(server, Replicated)
        yield server


@pytest.fixture(scope="module")
def clip(librivox: Path) -> NDArray[np.int16]:
    samples = speech(min(librivox.glob("*.wav"), key=lambda path: path.stat().st_size))
    return np.concatenate([samples, np.zeros(16_000, np.int16)])


async def opened(server: LiveServer, tls: ssl.SSLContext | None = None) -> tuple[Conversation, dict[str, Any]]:
    """A connection, and the first event that it gets."""
    url = f"{server.url}?resume=offer"
    talking = Conversation(await connect(url, additional_headers=HEADERS, ping_timeout=None, ssl=tls))
    return talking, await talking.receive_any()


async def claimed(server: LiveServer, token: str, seq: int, tls: ssl.SSLContext | None = None) -> Conversation:
    """A connection that has asked for the session of this token."""
    url = f"{server.url}?resume=claim"
    socket = await connect(url, additional_headers=HEADERS, ping_timeout=None, ssl=tls)
    talking = Conversation(socket)
    await talking.send("resume", token=token, seq=seq)
    return talking


async def room(server: LiveServer, sessions: int = 2 * EACH) -> list[Conversation]:
    """That many sessions at once, which succeeds when those of earlier tests are over."""
    open_now: list[Conversation] = []
    while len(open_now) < sessions:
        talking, first = await opened(server)
        if first["type"] == "ready":
            open_now.append(talking)
        else:
            await talking.socket.close()
            await asyncio.sleep(0.02)
    return open_now


def lasting_stream(server: LiveServer) -> AbstractAsyncContextManager[LastingStream]:
    return open_lasting_stream(server.url, {"sample_rate": 16_000}, api_key=KEY)


async def metrics_text(server: LiveServer, tls: ssl.SSLContext | None) -> str:
    async with httpx.AsyncClient(verify=tls or False, headers=HEADERS) as client:
        return (await client.get(f"{server.http_url}/metrics")).text


def replica_of(ready: dict[str, Any]) -> int:
    return int(ready["resume"]["token"].partition(".")[0])


async def close(*conversations: Conversation) -> None:
    """As a client that does not come back, and whose session is over when this returns."""
    for each in conversations:
        await each.send("stop")
        await each.receive_all()


def test_a_full_replica_refuses_nobody_while_another_has_room(replicated: Replicated) -> None:
    async def script() -> None:
        sessions = await room(replicated)
        assert [replica_of(each.events[0]) for each in sessions].count(1) == EACH
        for _ in range(10):
            for leaving in (0, -1):
                talking, refused = await opened(replicated)
                assert (refused["type"], refused.get("code")) == ("error", "busy")
                await talking.receive_all()
                await close(sessions.pop(leaving))
                talking, first = await opened(replicated)
                assert first["type"] == "ready", first
                sessions.append(talking)
        await close(*sessions)

    run(script())


def test_connections_that_only_ask_take_no_place(replicated: Replicated) -> None:
    async def script() -> None:
        asking = [await asyncio.open_connection("127.0.0.1", replicated.port) for _ in range(4 * EACH)]
        for reader, writer in asking:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await reader.readline()
        await close(*await room(replicated))
        for _, writer in asking:
            writer.close()

    run(script())


def test_a_recording_that_is_still_sent_keeps_its_place(replicated: Replicated) -> None:
    """Its session opens when it is complete; a live client that took its place would have it refused."""

    async def script() -> None:
        await close(*await room(replicated))
        _, writer = await asyncio.open_connection("127.0.0.1", replicated.port)
        head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        head += f"Authorization: Bearer {KEY}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        writer.write(head.encode())
        sessions = await room(replicated, 2 * EACH - 1)
        replicas = [replica_of(each.events[0]) for each in sessions]
        assert sorted([replicas.count(1), replicas.count(2)]) == [EACH - 1, EACH]
        writer.close()
        await close(*sessions)

    run(script())


def test_a_client_that_comes_back_goes_on_with_its_session_whichever_replica_it_reaches(
    replicated: Replicated, clip: NDArray[np.int16]
) -> None:
    run(comes_back(replicated, clip))


async def comes_back(server: LiveServer, clip: NDArray[np.int16], tls: ssl.SSLContext | None = None) -> None:
    for _ in range(2):
        talking, ready = await opened(server, tls)
        token = ready["resume"]["token"]
        await talking.send_audio(clip[:16_000], 1600)
        await talking.receive("speech_started")
        talking.socket.transport.abort()
        while f'streaming_asr_parked_sessions{{replica="{replica_of(ready)}"}} 1.0' not in await metrics_text(
            server, tls
        ):
            pass
        # The other one has fewer sessions, and gets the connection.
        again = await claimed(server, token, talking.events[-1]["seq"], tls)
        resumed = await again.receive("ready")
        assert (resumed["resume"]["token"], resumed["resume"]["resumed"]) == (token, True)
        assert resumed["session"] == ready["session"]
        received = resumed["resume"]["audio_bytes"] // 2
        await again.send_audio(np.concatenate([clip[received:], *[clip] * 20]), 1600)
        await again.send("stop")
        assert await again.receive_all() == 1000
        assert len(again.of("final")) > 1
        assert again.of("done")[0]["audio_ms"] == 21 * len(clip) // 16


def test_a_token_of_a_session_that_is_gone_gets_a_new_session(replicated: Replicated) -> None:
    async def script() -> None:
        for token in ("1.gone", "2.gone", "3.gone", "gone"):
            talking = await claimed(replicated, token, 0)
            ready = await talking.receive("ready")
            assert not ready["resume"]["resumed"]
            await close(talking)

    run(script())


def test_a_short_lived_key_is_valid_in_all_replicas(replicated: Replicated) -> None:
    request = urllib.request.Request(f"{replicated.http_url}/v1/realtime/client_secrets", b"{}", HEADERS)
    with urllib.request.urlopen(request) as answer:
        key = json.load(answer)["value"]

    async def script() -> None:
        await close(*await room(replicated))
        headers = {"Authorization": f"Bearer {key}"}
        sessions = [
            Conversation(await connect(f"{replicated.url}?resume=offer", additional_headers=headers))
            for _ in range(2 * EACH)
        ]
        assert sorted([replica_of(await each.receive_any()) for each in sessions]) == [1] * EACH + [2] * EACH
        await close(*sessions)

    run(script())


def metrics(server: LiveServer) -> dict[str, float]:
    _, text = server.get("/metrics")
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_the_metrics_are_those_of_all_replicas(replicated: Replicated, clip: NDArray[np.int16]) -> None:
    total, seconds = 'streaming_asr_sessions_opened_total{protocol="/v1/stream"}', "streaming_asr_audio_seconds_total"

    async def script() -> None:
        sessions = await room(replicated)
        before = metrics(replicated)
        now = {replica: f'streaming_asr_sessions{{protocol="/v1/stream",replica="{replica}"}}' for replica in (1, 2)}
        assert [before[name] for name in now.values()] == [EACH, EACH]
        for each in sessions:
            await each.send_audio(clip, 1600)
        await close(*sessions)
        await close(*await room(replicated))
        after = metrics(replicated)
        assert after[total] - before[total] == 2 * EACH
        assert after[seconds] - before[seconds] == pytest.approx(2 * EACH * len(clip) / 16_000)
        assert after["streaming_asr_final_seconds_count"] > before.get("streaming_asr_final_seconds_count", 0)
        assert after['streaming_asr_ready{replica="2"}'] == 1

    run(script())


def test_a_replica_that_dies_takes_only_its_own_sessions_which_go_on_at_another(
    replicated: Replicated, clip: NDArray[np.int16]
) -> None:
    async def script() -> None:
        async with lasting_stream(replicated) as lasting:
            for start in range(0, len(clip), 1600):
                await lasting.send(clip[start : start + 1600].tobytes())
            assert lasting.ready is not None
            assert lasting.ready.resume is not None
            dying = int(lasting.ready.resume.token.partition(".")[0])
            others = [await opened(replicated) for _ in range(2)]
            staying = next(talking for talking, ready in others if replica_of(ready) != dying)
            counted = metrics(replicated)
            os.kill(process_of(replicated, dying), signal.SIGKILL)
            await lasting.stop()
            events = [event async for event in lasting]
            assert any(isinstance(event, Reconnected) for event in events)
            assert any(isinstance(event, Final) for event in events)
            assert isinstance(events[-1], Done)
            await staying.send_audio(clip, 1600)
            await staying.send("stop")
            assert await staying.receive_all() == 1000
            assert staying.of("final")
        replicated.await_statuses(ready=2)
        now = metrics(replicated)
        assert now[f'streaming_asr_replica_deaths_total{{replica="{dying}"}}'] == 1
        growing = [name for name in counted if "_total" in name or "_count" in name]
        assert all(now[name] >= counted[name] for name in growing)

    run(script())
    assert any(f"Replica {dead} ended by SIGKILL" in "".join(replicated.log) for dead in (1, 2))


def test_replicas_are_replaced_one_after_the_other(replicated: Replicated, clip: NDArray[np.int16]) -> None:
    async def script() -> None:
        before = [process_of(replicated, replica) for replica in (1, 2)]
        async with lasting_stream(replicated) as lasting:
            replicated.signal(signal.SIGHUP)
            replaced = asyncio.create_task(asyncio.to_thread(replicated.wait_for, "All replicas have been replaced"))
            sent = 0
            while not replaced.done():
                status, _ = await asyncio.to_thread(replicated.get, "/readyz")
                assert status == 200
                await lasting.send(clip[sent % len(clip) :][:1600].tobytes())
                sent += 1600
            await replaced
            await lasting.stop()
            events = [event async for event in lasting]
            assert any(isinstance(event, Reconnected) for event in events)
            assert isinstance(events[-1], Done)
        assert not set(before) & {process_of(replicated, replica) for replica in (1, 2)}

    run(script())


def test_with_tls_sessions_are_resumed_and_get_their_finals_when_the_server_stops(
    clip: NDArray[np.int16], tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    arguments = ("--certificate", str(tmp_path / "cert.pem"), "--private-key", str(tmp_path / "key.pem"))

    async def script(server: LiveServer) -> None:
        await comes_back(server, clip, tls)
        sessions = [Conversation(await connect(server.url, ssl=tls, ping_timeout=None)) for _ in range(4)]
        for each in sessions:
            await each.send_audio(clip, 1600)
            await each.receive("speech_started")
        # As systemd does, to each process of a service.
        server.signal(signal.SIGTERM)
        for replica in (1, 2):
            os.kill(process_of(server, replica), signal.SIGTERM)
        assert [await each.receive_all() for each in sessions] == [1012] * 4
        for each in sessions:
            assert each.of("final")
            assert [error["code"] for error in each.of("error")] == ["restarting"]

    with LiveServer(*OPTIONS, *arguments, model=None, module=FAKE) as server:
        server.wait_for("replica 2: Ready")
        run(script(server))
        assert server.wait() == 0


def test_an_address_that_is_taken_is_reported_as_by_one_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", FAKE, "serve", *OPTIONS, "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"streaming-asr: can't listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with --port or --host\n"
    )


def test_a_server_whose_recognizer_cannot_run_ends_with_one_message() -> None:
    command = [sys.executable, "-m", FAKE, "serve", MISSING, *OPTIONS, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("streaming-asr: there are no weights\n") == 1
    assert "replica 2" not in done.stderr


def test_replicas_end_when_their_supervisor_is_killed(replicated: Replicated) -> None:
    """The last test of this server."""
    processes = [process_of(replicated, replica) for replica in (1, 2)]
    replicated.kill()
    deadline = time.monotonic() + 30
    while any(_runs(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    # One that nobody has waited for yet has ended, too.
    return status.rpartition(")")[2].split()[0] != "Z"
