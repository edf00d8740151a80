"""One connection to the server, as docs/protocol.md describes it.

async with open_stream("ws://localhost:8000/v1/stream", {"sample_rate": 16_000, "language": "en"}) as stream:
    await stream.send(pcm)
    await stream.stop()
    async for event in stream:
        if isinstance(event, Final):
            print(event.text)
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from clients.errors import ConnectionBroken, ServerRefused, ServerUnreachable, StreamEnded
from clients.events import Configured, Done, Ready, ServerError, ServerEvent, decode_event
from clients.inbox import Inbox

DEFAULT_URL = "ws://localhost:8000/v1/stream"
STREAM_PATH = "/v1/stream"
OPEN_TIMEOUT_S = 10.0
MESSAGE_BYTES = 64 * 1024
"""Longer audio is sent in several messages."""
_EVENT_BYTES = 16 * 2**20
_CLOSE_TIMEOUT_S = 0.5
_REASON_WAIT_S = 2.0
_WORDY = ("keywords", "context", "replace")
"""Options that are sent in a message, because a URL is limited in length and commas separate values in it."""

_T = TypeVar("_T", bound=ServerEvent)


@dataclass(frozen=True)
class Resume:
    """Asks for a session that can be continued on another connection, or for the continuation of one.

    If that session is gone, a new one is opened: `Ready.resume` says which it is, and what the server has received.
    """

    token: str = ""
    """Of the session to continue, from its `Ready.resume`; empty: a new one."""
    seq: int = 0
    """Of the last event received in that session."""


class TranscriptionStream:
    """An open session. Iterate over it for its events; they are received even while nothing iterates.

    Iteration ends after `Done`. It raises `ServerRefused` when the server ends the stream and gives a reason,
    `ConnectionBroken` when the connection ends without one.
    """

    def __init__(self, socket: ClientConnection, ready: Ready, controls: int = 0, seq: int = 0) -> None:
        self.ready = ready
        """The server's description of itself, and the options in force."""
        self.controls = controls
        """Text messages that were sent on this connection before the stream was open, without `resume`."""
        self.seq = seq
        """Of the last event received, to resume the session."""
        self._socket = socket
        self._inbox: Inbox[ServerEvent] = Inbox()
        self._stopped = False
        self._ended: Exception | None = None
        """The error for further sends."""
        self._unanswered_since: float | None = None
        """When an answer was requested, if nothing has come since; of the event loop's clock."""
        self._reader = asyncio.create_task(self._read(), name="read events")

    async def send(self, audio: bytes | memoryview) -> None:
        """Send audio of any length, in the encoding of the options. Waits while the server does not read.

        Raises:
            StreamEnded: after `stop`.
            StreamError: the stream has ended; the error that iteration raises.
        """
        view = memoryview(audio)
        for start in range(0, len(view), MESSAGE_BYTES):
            await self._send(bytes(view[start : start + MESSAGE_BYTES]))

    async def finalize(self) -> None:
        """End the open utterance now; `Finalized` follows once everything sent before has its final."""
        await self._control("finalize")

    async def configure(self, **options: Any) -> None:
        """Change options in mid-stream. `Configured` follows, or a `ServerError` that is not fatal."""
        await self._control("configure", **options)

    async def ping(self, id: str | int | None = None) -> None:
        """Request a `Pong`, which follows once everything sent before is processed."""
        self._expect_answer()
        await self._control("ping", id=id)

    async def stop(self) -> None:
        """End the audio. What is pending is transcribed; the last event is `Done`."""
        if not self._stopped:
            self._expect_answer()
            await self._control("stop")
            self._stopped = True

    @property
    def silent_s(self) -> float:
        """How long the server has owed an answer, to a ping or the stop, and sent nothing at all."""
        since = self._unanswered_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    def abort(self) -> None:
        """Break the connection, without the close that ends the session: it can be resumed."""
        self._socket.transport.abort()

    def __aiter__(self) -> AsyncIterator[ServerEvent]:
        return self

    async def __anext__(self) -> ServerEvent:
        event = await self._inbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the connection; what has no final yet gets none."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._inbox.close()
        await self._socket.close()

    def _expect_answer(self) -> None:
        if self._unanswered_since is None:
            self._unanswered_since = asyncio.get_running_loop().time()

    async def _control(self, kind: str, **fields: Any) -> None:
        await self._send(json.dumps({"type": kind, **fields}))

    async def _send(self, message: str | bytes) -> None:
        if self._stopped:
            raise StreamEnded("The stream is stopped; open another to send more.")
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            # The reason, if the server gave one, is still unread.
            await asyncio.wait({self._reader}, timeout=_REASON_WAIT_S)
            raise self._ended or _broken(closed) from None

    async def _read(self) -> None:
        error: Exception | None = None
        try:
            done = False
            while not done:
                event = await _receive(self._socket)
                self._unanswered_since = None
                if not isinstance(event, Ready):
                    self.seq = max(self.seq, event.seq)
                done = isinstance(event, Done)
                await self._inbox.put(event)
        except Exception as caught:
            error = caught
        self._ended = error or StreamEnded("The stream is done; open another to send more.")
        await self._inbox.close(error)


@asynccontextmanager
async def open_stream(
    url: str = DEFAULT_URL,
    options: Mapping[str, Any] | None = None,
    *,
    api_key: str | None = None,
    tls: ssl.SSLContext | None = None,
    ping_timeout_s: float | None = None,
    resume: Resume | None = None,
) -> AsyncIterator[TranscriptionStream]:
    """Connect and open a session.

    Args:
        url: `ws://` or `wss://`; without a path, `STREAM_PATH` is added.
        options: of the session, as named in docs/protocol.md.
        tls: for `wss`, if other certificates than the system's are trusted.
        ping_timeout_s: if a WebSocket ping has no answer for this long, the connection counts as broken. A server that
            throttles a sender does not answer, so use it only for audio sent at the pace of speech.
        resume: None: the session ends with the connection.

    Raises:
        ServerUnreachable: no server of this protocol answers there.
        ServerRefused: the server refused the session and gave a reason.
        ConnectionBroken: the connection ended before the session began.
    """
    given = dict(options or {})
    wordy = {name: given.pop(name) for name in _WORDY if given.get(name)}
    if resume is not None:
        given["resume"] = "claim" if resume.token else "offer"
    address = stream_address(url, given)
    shown = url.partition("?")[0]
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
    try:
        socket = await connect(
            address,
            additional_headers=headers,
            ssl=(tls or ssl.create_default_context()) if address.startswith("wss:") else None,
            compression=None,
            open_timeout=OPEN_TIMEOUT_S,
            ping_timeout=ping_timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_EVENT_BYTES,
        )
    except InvalidStatus as refusal:
        raise _refused(shown, refusal) from None
    except (OSError, asyncio.TimeoutError, InvalidHandshake, InvalidURI, EOFError) as error:
        raise _unreachable(shown, error) from None
    async with socket:
        controls = 0
        try:
            if resume is not None and resume.token:
                await socket.send(json.dumps({"type": "resume", "token": resume.token, "seq": resume.seq}))
            ready = await _expect(socket, Ready)
            resumed = ready.resume is not None and ready.resume.resumed
            if wordy and not resumed:
                controls += 1
                await socket.send(json.dumps({"type": "configure", **wordy}))
                ready = msgspec.structs.replace(
                    ready, options={**ready.options, **(await _expect(socket, Configured)).options}
                )
        except asyncio.TimeoutError:
            raise ServerUnreachable(f"{shown} accepted the connection but opened no session.") from None
        except ConnectionClosed as closed:
            raise _broken(closed) from None
        seq = resume.seq if resume is not None and resumed else 0
        stream = TranscriptionStream(socket, ready, controls, seq)
        try:
            yield stream
        finally:
            await stream.aclose()


def stream_address(url: str, options: Mapping[str, Any]) -> str:
    """The full URL, with the options in its query; they override those already in the query of `url`.

    Raises:
        ServerUnreachable: `url` is not the address of a WebSocket.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ServerUnreachable(f"{url!r} is not an address such as {DEFAULT_URL}", transient=False)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in options]
    query = urlencode([*kept, *((name, _query_value(value)) for name, value in options.items())])
    path = parts.path if parts.path not in ("", "/") else STREAM_PATH
    return f"{scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")


def _query_value(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _receive(socket: ClientConnection) -> ServerEvent:
    """The next message of a known kind.

    Raises:
        ServerRefused: the message is a fatal error.
        ConnectionBroken: the connection ended.
        UnreadableEvent: the message can't be read.
    """
    while True:
        try:
            event = decode_event(await socket.recv())
        except ConnectionClosed as closed:
            raise _broken(closed) from None
        if isinstance(event, ServerError) and event.fatal:
            raise ServerRefused(event.code, event.message)
        if event is not None:
            return event


async def _expect(socket: ClientConnection, kind: type[_T]) -> _T:
    """Wait for an event of this kind; an error before it is a refusal."""
    while True:
        event = await asyncio.wait_for(_receive(socket), OPEN_TIMEOUT_S)
        if isinstance(event, kind):
            return event
        if isinstance(event, ServerError):
            raise ServerRefused(event.code, event.message)


def _broken(closed: ConnectionClosed) -> ConnectionBroken:
    received = closed.rcvd
    if received is not None:
        return ConnectionBroken(received.code, received.reason)
    return ConnectionBroken(1006, closed.sent.reason if closed.sent is not None else "")


def _refused(url: str, refusal: InvalidStatus) -> ServerRefused | ServerUnreachable:
    status = refusal.response.status_code
    try:
        error = json.loads(refusal.response.body or b"")["error"]
        return ServerRefused(str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        pass
    if status == 401:
        return ServerRefused("unauthorized", f"{url} needs another API key.")
    hint = f"; its streams are at {STREAM_PATH}" if status == 404 else ""
    return ServerUnreachable(f"{url} answered HTTP {status}{hint}.", transient=status >= 500)


def _unreachable(url: str, error: Exception) -> ServerUnreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = f"The certificate of {url} is not trusted ({error.verify_message})."
        return ServerUnreachable(f"{problem} Pass the authority that signed it with --ca FILE.", transient=False)
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        problem = f"{url} does not speak TLS."
        return ServerUnreachable(f"{problem} If the server has none, the address begins with ws://", transient=False)
    if isinstance(error, ssl.SSLError):
        return ServerUnreachable(f"{url} does not speak TLS correctly ({error.reason}).", transient=False)
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return ServerUnreachable(f"No server at {url}; start one with `streaming-asr serve`.")
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return ServerUnreachable(f"{url} did not answer within {OPEN_TIMEOUT_S:g} s.")
    if isinstance(error, InvalidURI):
        return ServerUnreachable(f"{url!r} is not an address such as {DEFAULT_URL}", transient=False)
    reason = str(error) or "the connection was closed before an answer came"
    return ServerUnreachable(f"{url} can't be reached: {reason}.")
