"""The server as `serve` runs it, with a recognizer that needs no speech: its addresses, and deadlines under TLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.server import http_bounds, serve
from streaming_asr.server.key_guesses import AT_ADDRESS
from streaming_asr.server.live import connection, websocket
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.wire import run

HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


async def _answer(port: int, request: str = "", tls: ssl.SSLContext | None = None) -> str:
    """Everything that a server sends to this request until it closes; "" if it resets the connection."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
    )
    try:
        writer.write(request.encode())
        return (await reader.read()).decode()
    except ConnectionError:
        return ""
    finally:
        writer.transport.abort()


def _get(path: str, *headers: str) -> str:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""))


@contextlib.asynccontextmanager
async def _serving(**options: Any) -> AsyncIterator[int]:
    """A server; gives its port."""
    port = _free_port()
    given = ServerOptions(port=port, drain_timeout_s=0, session=SessionOptions(vad="webrtc"), **options)
    serving = asyncio.create_task(serve.serve(FakeRecognizer(), given))
    try:
        while not serving.done():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.01)
        # The recognizer is loaded.
        await asyncio.sleep(0.05)
        yield port
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _with_server(script: Callable[[int], Awaitable[None]], **options: Any) -> None:
    async def going() -> None:
        async with _serving(**options) as port:
            await script(port)

    run(going())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "asr.example", ""])
def test_a_server_that_others_can_reach_needs_a_key_or_must_be_allowed_to_have_none(host: str) -> None:
    with pytest.raises(OptionError, match="--allow-anonymous"):
        ServerOptions(host=host)
    assert ServerOptions(host=host, api_keys=("key",)).host == host
    assert ServerOptions(host=host, allow_anonymous=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_a_server_for_its_own_machine_needs_no_key(host: str) -> None:
    assert ServerOptions(host=host).host == host


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_hosts": ("asr.example:8000",)},
        {"allowed_hosts": ("https://asr.example",)},
        {"allowed_hosts": ("*.example",)},
        {"trusted_proxies": ("proxy.example",)},
        {"trusted_proxies": ("10.0.0.1/8",)},
        {"metrics_host": "0.0.0.0"},
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(options: Any) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        ServerOptions(**options)


def test_the_metrics_need_the_key_or_have_an_address_of_their_own() -> None:
    own = _free_port()

    async def behind_the_key(port: int) -> None:
        assert "401" in (await _answer(port, _get("/metrics"))).split("\r\n")[0]
        assert "streaming_asr_ready 1.0" in await _answer(port, _get("/metrics", "Authorization: Bearer key"))

    async def at_their_own(port: int) -> None:
        assert "404" in (await _answer(port, _get("/metrics", "Authorization: Bearer key"))).split("\r\n")[0]
        assert "streaming_asr_ready 1.0" in await _answer(own, _get("/metrics"))
        assert "404" in (await _answer(own, _get("/v1/models"))).split("\r\n")[0]

    _with_server(behind_the_key, api_keys=("key",))
    _with_server(at_their_own, api_keys=("key",), metrics_port=own)
    assert run(_refused(own)) == ""


async def _refused(port: int) -> str:
    """ "" if nothing listens."""
    try:
        return await _answer(port, _get("/metrics"))
    except ConnectionRefusedError:
        return ""


def test_an_address_of_the_metrics_that_is_taken_is_reported() -> None:
    async def script() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            options = ServerOptions(port=0, metrics_port=taken.getsockname()[1])
            with pytest.raises(serve.AddressTaken, match="--metrics-port"):
                await serve.serve(FakeRecognizer(), options)

    run(script())


@pytest.mark.parametrize("trusted", [True, False])
def test_a_trusted_proxy_names_the_clients_that_guess(trusted: bool) -> None:
    async def script(port: int) -> None:
        def asked(client: int, key: str) -> Awaitable[str]:
            return _answer(port, _get("/v1/models", f"X-Forwarded-For: 10.0.0.{client}", f"X-API-Key: {key}"))

        for number in range(AT_ADDRESS):
            assert " 401 " in await asked(1, f"guess {number}")
        assert " 429 " in await asked(1, "key")
        assert (" 200 " if trusted else " 429 ") in await asked(2, "key")

    _with_server(script, api_keys=("key",), trusted_proxies=("127.0.0.0/8",) if trusted else ())


class Tls(NamedTuple):
    """Files of a server's certificate, and what a client trusts it by."""

    certificate: Path
    private_key: Path
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return Tls(folder / "cert.pem", folder / "key.pem", trusting)


def test_files_that_tls_can_not_use_are_named(tls: Tls, tmp_path: Path) -> None:
    certificate, key = tls.certificate, tls.private_key
    other, encrypted = tmp_path / "other.pem", tmp_path / "encrypted.pem"
    other.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    encrypted.write_bytes(loaded.private_bytes(pem, pkcs8, secret))
    for files, why in (
        ((certificate, other), f"{other} is not the private key of {certificate}"),
        ((certificate, encrypted), f"{encrypted} is encrypted; decrypt it: openssl pkey -in {encrypted}"),
        ((key, key), f"certificate: {key} has no certificate in PEM format"),
        ((certificate, certificate), f"private_key: {certificate} has no private key in PEM format"),
        ((tmp_path / "none", key), "certificate: can't read"),
        ((certificate, tmp_path), "private_key: can't read"),
    ):
        with pytest.raises(OptionError, match=re.escape(why)):
            ServerOptions(certificate=files[0], private_key=files[1]).tls()


def test_deadlines_of_requests_hold_under_tls(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http_bounds, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http_bounds, "CLOSE_WAIT_S", 0.3)

    async def script(port: int) -> None:
        # No handshake of TLS, half of one, no request, half a request, a handshake of a WebSocket that can't be read.
        assert await _answer(port) == ""
        assert await _answer(port, "\x16\x03\x01\x02") == ""
        assert await _answer(port, tls=tls.trusting) == ""
        assert (await _answer(port, "GET / HTTP/1.1\r\nHo", tls.trusting)).startswith("HTTP/1.1 408 ")
        upgrade = _get("/v1/stream", "Upgrade: websocket", "Sec-WebSocket-Version: 13").replace("close", "Upgrade")
        assert (await _answer(port, upgrade, tls.trusting)).startswith("HTTP/1.1 400 ")

    _with_server(script, certificate=tls.certificate, private_key=tls.private_key)


def test_a_client_that_does_not_read_is_cut_off_under_tls(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection, websocket):
        monkeypatch.setattr(module, "CLOSE_WAIT_S", 0.3)

    async def script(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.trusting, server_hostname="localhost")
        writer.write(HANDSHAKE)
        assert b" 101 " in await reader.readline()
        ping = b'{"type": "ping", "id": "' + b"x" * 60_000 + b'"}'
        frame = b"\x81\xfe" + len(ping).to_bytes(2, "big") + bytes(4) + ping
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(frame)
                await asyncio.wait_for(writer.drain(), 10)
        writer.transport.abort()
        assert 'errors_total{code="slow_reader"} 1.0' in await _answer(port, _get("/metrics"), tls.trusting)

    _with_server(script, certificate=tls.certificate, private_key=tls.private_key, max_unread_bytes=1_000_000)


def test_unfinished_tls_handshakes_are_bounded_and_keep_nobody_out(tls: Tls) -> None:
    async def script(port: int) -> None:
        unfinished = []
        for number in range(30):
            unfinished.append(await asyncio.open_connection("127.0.0.1", port))
            unfinished[-1][1].write(b"\x16\x03\x01\x02"[:number])
        for reader, _ in unfinished[:20]:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
        # The latest are still there, and the one that has taken the longest makes room for a client that goes on.
        assert not any(reader.at_eof() for reader, _ in unfinished[20:])
        assert " 200 " in await _answer(port, _get("/healthz"), tls.trusting)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(unfinished[20][0].read(), 10) == b""
        assert not any(reader.at_eof() for reader, _ in unfinished[21:])
        for _, writer in unfinished:
            writer.transport.abort()

    _with_server(script, certificate=tls.certificate, private_key=tls.private_key, max_http_connections=10)


def test_a_request_that_comes_with_the_end_of_the_tls_handshake_is_answered(tls: Tls) -> None:
    """As it does from a client that sends both at once; the connection has no protocol yet."""

    async def script(port: int) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = tls.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await asyncio.wait_for(reader.read(65536), 10))
        client.write(_get("/healthz").encode())
        writer.write(outgoing.read())
        answer = b""
        while b"status" not in answer:
            incoming.write(await asyncio.wait_for(reader.read(65536), 10))
            with contextlib.suppress(ssl.SSLWantReadError):
                while part := client.read():
                    answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()

    _with_server(script, certificate=tls.certificate, private_key=tls.private_key)
