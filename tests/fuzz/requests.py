"""HTTP requests and handshakes, from bytes: no answer is a fault of the server's.

The first line is ``METHOD target``, then come headers, an empty line and the body.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import BadRequest, Handshake
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer

ANSWERS_WITHIN_S = 60.0
_UNAVAILABLE = (503,)
"""The only statuses of 500 and more that an answer may have: the server is full, or not ready."""


@functools.cache
def _running() -> tuple[asyncio.AbstractEventLoop, Starlette]:
    loop = asyncio.new_event_loop()
    application = Application(
        FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc"), fetch_timeout_s=2.0)
    )
    loop.run_until_complete(application.service.start())
    return loop, application.asgi


def request(data: bytes) -> int:
    """Make a request of the whole application; returns 1.

    Raises:
        Exception: the answer is a fault, or none.
    """
    loop, application = _running()
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [
        (name.strip().lower(), value.strip())
        for name, colon, value in (line.partition(b":") for line in lines)
        if colon
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.decode("latin-1"),
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    status, answer = loop.run_until_complete(asyncio.wait_for(_answer(application, scope, body), ANSWERS_WITHIN_S))
    assert 200 <= status < 500 or status in _UNAVAILABLE, f"HTTP {status}: {answer[:300]!r}"
    if status >= 400 and answer.startswith(b"{"):
        json.loads(answer)
    return 1


async def _answer(application: Starlette, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    sent = False
    status, answer = 0, bytearray()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answer.extend(message.get("body", b""))

    await application(scope, receive, send)
    return status, bytes(answer)


def shake_hands(data: bytes) -> int:
    """Open a connection of any WebSocket protocol: a byte for the path, then the query; returns 1.

    Raises:
        Exception: neither is a session opened, nor the handshake refused, nor an error sent.
    """
    path = tuple(PROTOCOLS)[data[0] % len(PROTOCOLS)] if data else "/v1/stream"
    query = tuple(parse_qsl(data[1:].decode("utf-8", "replace"), keep_blank_values=True))
    try:
        translator = PROTOCOLS[path].translator(Handshake(path, query, time=1000.0), SessionOptions())
    except BadRequest:
        return 1
    assert translator.connected()
    return 1


HANDSHAKE_SEEDS: Sequence[bytes] = (
    b"\0language=de&sample_rate=8000&encoding=mulaw&keyword=Qwen&keyword=a,b&vad=silero&endpoint_ms=300&partials=false",
    b"\1intent=transcription&model=gpt-4o-transcribe&input_audio_format=pcm_s16le_16000&turn_detection=none",
    b"\2model=qwen3-asr-flash-realtime",
    b"\3model=nova-3&encoding=linear16&sample_rate=16000&channels=2&multichannel=true&interim_results=true&endpointing="
    b"300&utterance_end_ms=1000&vad_events=true&keyterm=Qwen&keywords=a:2&language=en-US&punctuate=true&tag=x",
    b'\4model=flux-general-en&encoding=linear16&sample_rate=16000&eot_threshold=0.7&eager_eot_threshold=0.4&keyterm=["a"]'
    b"&eot_timeout_ms=900&language_hint=en",
)


def _form(**fields: bytes) -> bytes:
    parts = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b'; filename="a.wav"' if name == "file" else b"", value)
        for name, value in fields.items()
    )
    head = b"POST /v1/audio/transcriptions\nContent-Type: multipart/form-data; boundary=X\n\n"
    return head + parts + b"--X--\r\n"


_WAV = b"RIFF\x24\x01\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\1\0\0" + bytes(range(256))
_CHAT = (
    b'{"model":"fake","messages":[{"role":"user","content":[{"type":"text","text":"names"},{"type":"input_audio",'
    b'"input_audio":{"data":"UklGRg==","format":"wav"}}]}]}'
)
_URL = b'{"messages":[{"role":"user","content":[{"type":"audio_url","audio_url":{"url":"%s"}}]}],"vad_threshold":0.5}'
_JSON = b"\nContent-Type: application/json\n\n"
REQUEST_SEEDS: Sequence[bytes] = (
    _form(file=_WAV, model=b"whisper-1", language=b"en", response_format=b"verbose_json", stream=b"true"),
    _form(file=_WAV, response_format=b"srt", prompt=b"names", **{"timestamp_granularities[]": b"word"}),
    _form(model=b"whisper-1", vad=b"silero", vad_threshold=b"0.5"),
    _form(file=b""),
    b"POST /v1/chat/completions" + _JSON + _CHAT,
    b"POST /v1/chat/completions" + _JSON + _URL % b"data:audio/wav;base64,UklGRg==",
    b"POST /v1/chat/completions" + _JSON + _URL % b"http://127.0.0.1:1/a.wav",
    b"POST /v1/chat/completions" + _JSON + _URL % b"file:///etc/passwd",
    b'POST /v1/realtime/client_secrets\n\n{"expires_after":{"anchor":"created_at","seconds":600},"session":{"type":'
    b'"transcription","audio":{"input":{"transcription":{"model":"whisper-1"}}}}}',
    b"POST /v1/audio/translations\n\n",
    *(
        b"GET %s\nOrigin: http://localhost\nHost: localhost\n\n" % path
        for path in (b"/", b"/healthz", b"/readyz", b"/v1/models")
    ),
    b"GET /metrics\nAuthorization: Bearer key\nAccept: text/plain\n\n",
    b"GET /live-stream.js?x=../../etc/passwd\nIf-Modified-Since: x\nRange: bytes=0-1\n\n",
)
