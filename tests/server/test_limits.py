"""Every limit, key and refusal of the real server, reached for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streaming_asr.server.options import ServerOptions
from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, speech, talk, transcribe, words

pytestmark = pytest.mark.full

HELD_S = 10
"""`--max-held-s` of the tight server; what it may really hold is the longest utterance and a margin."""


@pytest.fixture(scope="module")
def tight() -> Iterator[LiveServer]:
    """A server with every limit low enough to reach."""
    with LiveServer(
        *("--max-sessions", "2", "--max-message-bytes", "32000", "--max-held-s", str(HELD_S), "--max-utterance-s", "5"),
        *("--max-session-s", "90", "--idle-timeout-s", "3", "--max-unread-events", "10"),
    ) as live:
        yield live


@pytest.fixture(scope="module")
def sentences(librivox: Path) -> NDArray[np.int16]:
    """All the clips, one after the other."""
    lines = (librivox / "manifest.jsonl").read_text().splitlines()
    return np.concatenate([speech(librivox / json.loads(line)["path"]) for line in lines])


def test_sessions_beyond_the_limit_are_refused_as_busy(tight: LiveServer) -> None:
    async def script(first: Conversation) -> None:
        await first.receive("ready")
        async with connect(tight.url) as another:
            await Conversation(another).receive("ready")
            third = Conversation(await connect(tight.url).__aenter__())
            assert await third.receive_all() == 1013
            assert [(e["code"], e["fatal"]) for e in third.of("error")] == [("busy", True)]
            assert "2 sessions" in third.of("error")[0]["message"]

    run(talk(tight.url, script))
    assert tight.metric('streaming_asr_refusals_total{code="busy"}') == 1


def test_a_message_too_big_ends_the_session_after_its_finals(tight: LiveServer, sentences: NDArray[np.int16]) -> None:
    async def script(talking: Conversation) -> None:
        await talking.send_audio(sentences[: 16_000 * 3], 1600)
        await talking.socket.send(bytes(40_000))
        assert await talking.receive_all() == 1009
        assert talking.text
        assert talking.events[-1]["code"] == "message_too_big"
        assert "32000" in talking.events[-1]["message"]

    run(talk(tight.url, script))


def test_a_message_far_too_big_is_not_even_read(tight: LiveServer) -> None:
    async def script(talking: Conversation) -> None:
        await talking.receive("ready")
        with contextlib.suppress(ConnectionClosed):
            await talking.socket.send(bytes(10_000_000))
        await talking.receive_all()
        assert talking.socket.close_code in (1009, 1006)

    run(talk(tight.url, script))


def test_a_silent_client_is_let_go(tight: LiveServer) -> None:
    async def script(talking: Conversation) -> None:
        for _ in range(3):
            await asyncio.sleep(1.2)
            await talking.send("ping")
        assert await talking.receive_all() == 1008
        assert len(talking.of("pong")) == 3
        assert talking.events[-1]["code"] == "idle"

    run(talk(tight.url, script))


def test_a_stream_ends_at_its_longest_with_all_its_finals(tight: LiveServer, sentences: NDArray[np.int16]) -> None:
    """Also: audio may come faster than it is decoded; the server holds a bounded part of it and loses none."""
    long = np.tile(sentences, -(-100 * 16_000 // len(sentences)))[: 100 * 16_000]
    held: list[float] = []

    async def watch() -> None:
        while True:
            held.append(await asyncio.to_thread(tight.metric, "streaming_asr_held_audio_seconds"))
            await asyncio.sleep(0.05)

    async def script(talking: Conversation) -> None:
        async def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                await talking.send_audio(long, 8000)

        watching = asyncio.create_task(watch())
        _, code = await asyncio.gather(send(), talking.receive_all())
        watching.cancel()
        assert code == 1008
        assert talking.events[-1]["code"] == "session_too_long"
        assert talking.of("speech_ended")[-1]["time_ms"] == pytest.approx(92_500, abs=3_000)
        ended = [event["utterance"] for event in talking.of("speech_ended")]
        assert [event["utterance"] for event in talking.of("final")] == ended
        assert all(event["time_ms"] - event["start_ms"] <= 5000 for event in talking.of("final"))

    run(talk(tight.url, script), within_s=240)
    assert max(held) > HELD_S / 2, "the audio never came faster than it was decoded"
    assert max(held) <= 5 + 15 + 1


def test_a_client_that_does_not_read_is_let_go(tight: LiveServer) -> None:
    async def script() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", tight.port, limit=2**16)
        handshake = (
            "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        writer.write(handshake.encode())
        ping = json.dumps({"type": "ping", "id": "x" * 80}).encode()
        frame = bytes([0x81, 0x80 | len(ping), 0, 0, 0, 0]) + ping

        async def flood() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(frame * 100)
                    await writer.drain()

        flooding = asyncio.create_task(flood())
        while await asyncio.to_thread(tight.metric, 'streaming_asr_errors_total{code="slow_reader"}') == 0:
            pass
        flooding.cancel()
        writer.transport.abort()

    run(script())
    assert tight.metric('streaming_asr_errors_total{code="slow_reader"}') == 1


def test_keys_open_the_door_wherever_a_client_can_put_them(librivox: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# of the call centre\nfrom-file\n")
    arguments = ("--api-key", "secret", "--api-key-file", str(keys), "--allowed-origin", "https://app.example")
    with LiveServer(*arguments, environment={"STREAMING_ASR_API_KEYS": "from-environment"}) as live:

        async def ready(talking: Conversation) -> None:
            await talking.receive("ready")

        for key in ("secret", "from-file", "from-environment"):
            run(talk(live.url, ready, headers={"Authorization": f"Bearer {key}"}))
        run(talk(live.url, ready, headers={"Authorization": "Token secret"}))
        run(talk(live.url, ready, headers={"X-API-Key": "secret"}))
        run(talk(f"{live.url}?token=secret", ready))
        run(talk(live.url, ready, subprotocols=["streaming-asr", "key.secret"]))
        for url, headers in ((live.url, {}), (live.url, {"Authorization": "Bearer wrong"}), (f"{live.url}?token=", {})):
            with pytest.raises(InvalidStatus) as refused:
                run(talk(url, ready, headers=headers))
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "unauthorized"

        known = {"Authorization": "Bearer secret"}
        run(talk(live.url, ready, headers=known, origin="https://app.example"))
        run(talk(live.url, ready, headers=known, origin=live.http_url))
        with pytest.raises(InvalidStatus) as refused:
            run(talk(live.url, ready, headers=known, origin="https://evil.example"))
        assert refused.value.response.status_code == 403
        assert live.get("/healthz")[0] == 200
        assert live.metric('streaming_asr_refusals_total{code="unauthorized"}') == 3


def test_tls(librivox: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    clip = speech(min(librivox.glob("*.wav"), key=lambda path: path.stat().st_size))
    with LiveServer("--certificate", str(certificate), "--private-key", str(key)) as live:
        assert live.url.startswith("wss://")
        assert transcribe(live.url, clip, ssl=trusting).text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_sessions_finish(number: int, sentences: NDArray[np.int16]) -> None:
    with LiveServer() as live:

        async def script(talking: Conversation) -> None:
            await talking.send_audio(sentences[: 16_000 * 4], 1600)
            await talking.receive("partial")
            live.signal(number)
            await talking.send_audio(np.zeros(3200, np.int16))
            assert await talking.receive_all() == 1012
            assert talking.of("speech_ended")[-1]["reason"] == "stop"
            assert len(words(talking.of("final")[-1]["text"])) >= 3
            assert (talking.events[-1]["code"], talking.events[-1]["fatal"]) == ("restarting", True)

        run(talk(live.url, script))
        assert live.wait() == 0
        assert any("Stopped" in line for line in live.log)
        assert not any("Traceback" in line for line in live.log)


def test_a_drain_has_its_limit(sentences: NDArray[np.int16]) -> None:
    """A client that neither reads nor hangs up does not keep the server from leaving."""
    with LiveServer("--drain-timeout-s", "0.5") as live:
        stuck = socket.create_connection(("127.0.0.1", live.port))
        handshake = (
            "GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        stuck.sendall(handshake.encode())
        assert b"101" in stuck.recv(100)
        live.signal(signal.SIGTERM)
        live.wait_for("Stopping: 1 sessions get up to 0.5 s to finish")
        began = time.monotonic()
        live.wait_for("Stopped")
        assert time.monotonic() - began < ServerOptions().drain_timeout_s
        assert live.wait() == 0
        stuck.close()


def _refused(*arguments: str) -> str:
    """What `serve` prints when it can't start."""
    command = [sys.executable, "-m", "streaming_asr", "serve", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode in (1, 2), ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_server_that_can_not_start_prints_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in _refused("--port", port)
    assert "0 to 65535" in _refused("--port", "70000")
    assert "1 to 100000" in _refused("--max-sessions", "0")
    assert "certificate and its private key" in _refused("--certificate", "missing.pem")
    assert "missing.pem" in _refused("--port", "0", "--certificate", "missing.pem", "--private-key", "missing.pem")
    assert "100 to 10000" in _refused("--port", "0", "--endpoint-ms", "5")
    assert "knows en" in _refused("tiny.en", "--port", "0", "--language", "zh")
    assert "missing-keys" in _refused("--port", "0", "--api-key-file", "missing-keys")
    assert "no-such-folder" in _refused("--port", "0", "./no-such-folder", "--recognizer", "faster-whisper")
    assert "workers" in _refused("--port", "0", "--workers", "0")


def test_without_vllm_one_message_names_what_to_install_for_which_hardware() -> None:
    """On a machine without it, which this one need not be: vLLM is hidden from the process."""
    hidden = (
        "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'vllm' else f(n, *a)"
    )
    start = (
        "from streaming_asr.cli import main; raise SystemExit(main(['serve', 'Qwen/Qwen3-ASR-1.7B', '--port', '0']))"
    )
    command = [sys.executable, "-c", f"{hidden}\n{start}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    for way in ("docker/compose.ascend.yaml", "[cuda]", "[cpu]"):
        assert way in ended.stderr
