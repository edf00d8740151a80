"""The WebSocket under every protocol's talk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from benchmarks.common.adapters import LiveSession, Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.talk import Message, Talk, broken

OPEN_TIMEOUT_S = 20.0
"""For the handshake, and again until the server takes audio: some load their model for each client."""
_CLOSE_TIMEOUT_S = 0.5
_MESSAGE_BYTES = 16 * 2**20
_SHOWN_BODY = 300


@dataclass(slots=True)
class WebSocketAdapter:
    """Speaks one protocol to one server."""

    name: str
    sample_rate: int
    """Hz, of the PCM that its sessions want."""
    url: str
    make_talk: Callable[[str], Talk]
    """By language."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query_of: Callable[[str], Mapping[str, str]] = lambda language: {}
    """What a session's address says, by language."""

    @property
    def can_finalize(self) -> bool:
        """Whether a session goes on after `finalize`."""
        return self.make_talk("").can_finalize

    def session(self, language: str) -> AbstractAsyncContextManager[LiveSession]:
        return self._session(language)

    @asynccontextmanager
    async def _session(self, language: str) -> AsyncIterator[LiveSession]:
        talk = self.make_talk(language)
        socket = await self._connect(with_query(self.url, self.query_of(language)))
        async with socket:
            session = WebSocketSession(socket, talk)
            await session.open()
            try:
                yield session
            finally:
                session.close()

    async def _connect(self, address: str) -> ClientConnection:
        shown = address.partition("?")[0]
        try:
            return await connect(
                address,
                additional_headers=self.headers,
                # Audio hardly shrinks, and deflating it would cost the generator more than all else.
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                # A busy server is to be measured, not to be hung up on.
                ping_timeout=None,
                close_timeout=_CLOSE_TIMEOUT_S,
                max_size=_MESSAGE_BYTES,
            )
        except InvalidStatus as refusal:
            body = bytes(refusal.response.body or b"")[:_SHOWN_BODY].decode(errors="replace").strip()
            raise SessionRefused(f"{shown} answered HTTP {refusal.response.status_code}: {body}") from None
        except (asyncio.TimeoutError, TimeoutError):
            raise SessionRefused(f"{shown} did not answer within {OPEN_TIMEOUT_S:g} s") from None
        except (OSError, EOFError, InvalidHandshake, InvalidURI) as error:
            raise SessionRefused(f"{shown} can't be reached: {error}") from None


class WebSocketSession:
    """A `LiveSession`."""

    def __init__(self, socket: ClientConnection, talk: Talk) -> None:
        self._socket = socket
        self._talk = talk
        self._finished = False
        self._last = Reading("")
        self._news = asyncio.Event()
        """The text has changed."""
        self._finishing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin the session.

        Raises:
            SessionRefused: the server would not.
        """
        try:
            await self._tell(self._talk.hello())
            await asyncio.wait_for(self._until_opened(), OPEN_TIMEOUT_S)
        except SessionFailed as failed:
            raise SessionRefused(str(failed)) from None
        except (asyncio.TimeoutError, TimeoutError):
            raise SessionRefused(f"the server opened no session within {OPEN_TIMEOUT_S:g} s") from None

    async def _until_opened(self) -> None:
        while not self._talk.opened:
            message = await self._receive()
            if message is None:
                raise SessionRefused("the server closed the connection before the session began")
            self._talk.receive(message)

    async def send(self, pcm: bytes) -> None:
        """Audio after the end of the stream, where `finalize` had to end it, is left out."""
        if not self._finished:
            await self._tell((self._talk.audio(pcm),))

    async def finalize(self) -> None:
        if self._talk.can_finalize:
            await self._tell(self._talk.finalize())
        else:
            await self.finish()

    async def finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self._talk.quiet_s is None:
            await self._tell(self._talk.finish())
        else:
            self._finishing = asyncio.create_task(self._finish_when_quiet(self._talk.quiet_s))

    async def readings(self) -> AsyncIterator[Reading]:
        while not self._talk.ended:
            message = await self._receive()
            if message is None:
                return
            reading = self._talk.receive(message)
            if reading is not None:
                if reading != self._last:
                    self._last = reading
                    self._news.set()
                yield reading

    def close(self) -> None:
        if self._finishing is not None:
            self._finishing.cancel()

    async def _finish_when_quiet(self, quiet_s: float) -> None:
        with suppress(asyncio.TimeoutError, TimeoutError):
            while True:
                self._news.clear()
                await asyncio.wait_for(self._news.wait(), quiet_s)
        # If the connection is gone, the reader gets the error.
        with suppress(SessionFailed):
            await self._tell(self._talk.finish())

    async def _receive(self) -> Message | None:
        """The next message, None when the server has closed as it should."""
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            self._talk.closed(*_code(closed))
            return None

    async def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                await self._socket.send(message)
            except ConnectionClosed as closed:
                raise broken(*_code(closed)) from None


def with_query(url: str, query: Mapping[str, str]) -> str:
    """The address with these in its query; what `url` itself says there holds."""
    parts = urlsplit(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    named = {name for name, _ in given}
    merged = [*((name, value) for name, value in query.items() if name not in named), *given]
    return urlunsplit(parts._replace(query=urlencode(merged)))


def _code(closed: ConnectionClosed) -> tuple[int, str]:
    return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (1006, "")
