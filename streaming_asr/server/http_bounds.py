"""uvicorn's HTTP, with bounds that it lacks: of a request's head in size, headers and time, of requests that are sent
ahead of their responses, of unread responses, of connections.

A connection that becomes a WebSocket is bounded by the session it opens from then on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from streaming_asr.server.live.websocket import CLOSE_WAIT_S, MAX_HEAD_BYTES, plain_response

HEAD_TIMEOUT_S = 20.0
"""Time for the head of a request, from the beginning of the connection, or from the last response."""
UNREAD_TIMEOUT_S = 60.0
"""How long a client may leave a response unread that does not fit into the buffers between."""

MAX_HEADERS = 128
"""Of a request; as websockets allows in a handshake. Each takes many times the memory that it has on the wire."""
MAX_AHEAD = 16
"""Requests of a connection that wait for its response before them. uvicorn reads all that arrive at once, which can be
thousands."""
_TOO_LONG = f"The request's URL and headers are longer than {MAX_HEAD_BYTES} bytes."
_TOO_MANY_HEADERS = f"The request has more than {MAX_HEADERS} headers."


class _TooMuch(Exception):
    """Ends the parsing of what was received."""


class _Requests(h11.Connection):
    """What h11 reads of a connection. Requests that were sent ahead wait in it, so that their heads can be seen only
    here.

    Args:
        ahead: is called when a response is over, with what has come behind its request; returns whether to go on.
    """

    def __init__(self, max_incomplete_event_size: int, ahead: Callable[[bytes], bool]) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size)
        self._ahead = ahead
        self._goes_on = True

    def start_next_cycle(self) -> None:
        super().start_next_cycle()
        self._goes_on = self._ahead(self.trailing_data[0])

    def next_event(self) -> Any:
        return super().next_event() if self._goes_on else h11.NEED_DATA


class HttpBounds(asyncio.Protocol):
    """Goes before either of uvicorn's classes for HTTP; see `bounded_http`."""

    cycle: Any
    """Of uvicorn: the request whose head has been received last; None before the first."""
    headers: list[tuple[bytes, bytes]]
    """Of uvicorn with httptools: those of the request that is being read."""
    config: uvicorn.Config
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    most_open: int
    open_now: set[HttpBounds]
    asking: dict[HttpBounds, None]
    """Those of them whose next request is not complete, the longest waiting first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_bytes = 0
        """Received since the last response, of a head that is not complete."""
        self._head_lines = 0
        self._ahead_bytes = 0
        """Received since the parser last completed something, so that it keeps them. Of uvicorn with httptools."""
        self._refused = False
        self._cycles: deque[Any] = deque()
        """The requests that have no whole response, in order; the first is being answered."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        if isinstance(self, H11Protocol):
            size = self.config.h11_max_incomplete_event_size or 4 * MAX_HEAD_BYTES
            self.conn = _Requests(size, self._take_ahead)
        if len(self.open_now) >= self.most_open and not self._make_room():
            reason = f"{self.most_open} HTTP connections are open, the most allowed; try again later."
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, reason)
            return
        self.open_now.add(self)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        if not self._answering:
            head, end, _ = data.partition(b"\r\n\r\n")
            self._head_bytes += len(data)
            self._head_lines += head.count(b"\n")
            if self._refuse_large(complete=bool(end)):
                return
        self._ahead_bytes += len(data)
        super().data_received(data)
        if self._answering and self._ahead_bytes > MAX_HEAD_BYTES and not isinstance(self, H11Protocol):
            self._refuse_ahead(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LONG)
            return
        if self._answering and not self._refused:
            self._head_bytes = self._head_lines = 0
            self.asking.pop(self, None)
            self._cancel(self._head_timer)

    def _take_ahead(self, received: bytes) -> bool:
        """Count the head of a request that was sent ahead; returns False if it is refused."""
        head = received.partition(b"\r\n\r\n")[0]
        self._head_bytes, self._head_lines = len(head), head.count(b"\n")
        return not self._refuse_large(complete=len(head) < len(received))

    def _refuse_large(self, *, complete: bool) -> bool:
        """Refuse the request that is being received if its head is too large; returns whether it is.

        Args:
            complete: whether the end of its head is there.
        """
        if self._head_bytes > MAX_HEAD_BYTES and not complete:
            reason = _TOO_LONG
        elif self._head_lines > MAX_HEADERS + 1:
            reason = _TOO_MANY_HEADERS
        else:
            return False
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
        return True

    # Of uvicorn with httptools; with h11 it reads one request after the other.

    def on_message_begin(self) -> None:
        if len(self._cycles) > MAX_AHEAD:
            reason = f"More than {MAX_AHEAD} requests were sent ahead of their responses."
            self._refuse_parsing(HTTPStatus.TOO_MANY_REQUESTS, reason)
        super().on_message_begin()  # type: ignore[misc]

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            # Of one that was sent ahead; others are refused before they are parsed.
            self._refuse_parsing(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_MANY_HEADERS)
        super().on_header(name, value)  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        self._ahead_bytes = 0
        before = self.cycle
        super().on_headers_complete()  # type: ignore[misc]
        if self.cycle is not before:
            self._cycles.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._ahead_bytes = 0
        super().on_body(body)  # type: ignore[misc]

    def on_message_complete(self) -> None:
        self._ahead_bytes = 0
        super().on_message_complete()  # type: ignore[misc]

    def send_400_response(self, msg: str) -> None:
        # Also where the parser was ended by a refusal.
        if not self._refused:
            super().send_400_response(msg)  # type: ignore[misc]

    def on_response_complete(self) -> None:
        if self._cycles:
            self._cycles.popleft()
        super().on_response_complete()  # type: ignore[misc]
        if not self._answering:
            if not isinstance(self, H11Protocol):
                self._head_bytes = self._ahead_bytes
            self._await_head()

    def handle_websocket_upgrade(self, *arguments: Any) -> None:
        if self._cycles:
            self._abandon_all()
            self._refuse(HTTPStatus.BAD_REQUEST, "A WebSocket handshake was sent ahead of a response.")
            return
        self._leave()
        super().handle_websocket_upgrade(*arguments)  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel(self._unread_timer)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._abandon_all()
        super().connection_lost(exc)

    @property
    def _answering(self) -> bool:
        """Whether the head of a request has been received that has no response yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _make_room(self) -> bool:
        """Close the connection that has been waiting for its request for the longest; without that, one client could
        keep all others out by connections on which it sends nothing."""
        longest = next(iter(self.asking), None)
        if longest is None:
            return False
        longest._leave()
        reason = "All HTTP connections are taken, and this one has sent no request for the longest."
        longest._refuse(HTTPStatus.REQUEST_TIMEOUT, reason)
        return True

    def _await_head(self) -> None:
        self.asking[self] = None
        self._limit_time(HEAD_TIMEOUT_S)

    def _limit_time(self, timeout_s: float) -> None:
        self._cancel(self._head_timer)
        self._head_timer = self.loop.call_later(timeout_s, self._too_late)

    def _too_late(self) -> None:
        if self._refused or self.transport.is_closing():
            # Closing waits until the client has read everything, without a limit.
            self.transport.abort()
        elif self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request's head was not complete after {HEAD_TIMEOUT_S:g} s.")
        else:
            self.transport.close()
            self._limit_time(CLOSE_WAIT_S)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._refused = True
        self.transport.write(plain_response(status, reason))
        if self.transport.can_write_eof():
            # A socket that is closed with something unread in it is reset, and the client may not see the response.
            self.transport.write_eof()
        else:
            self.transport.close()
        self._limit_time(CLOSE_WAIT_S)

    def _refuse_parsing(self, status: HTTPStatus, reason: str) -> None:
        """Refuse while uvicorn's parser runs, which ends by the exception."""
        self._refuse_ahead(status, reason)
        raise _TooMuch

    def _refuse_ahead(self, status: HTTPStatus, reason: str) -> None:
        """Refuse a request that was sent ahead, and those before it that have no response."""
        under_way = bool(self._cycles) and self._cycles[0].response_started
        self._abandon_all()
        if under_way:
            # Nothing fits into the middle of a response.
            self._refused = True
            self.transport.abort()
        else:
            self._refuse(status, reason)

    def _abandon_all(self) -> None:
        """No request gets a response any more. uvicorn does this for the last one alone."""
        for cycle in self._cycles:
            cycle.disconnected = True
            cycle.message_event.set()
        self._cycles.clear()

    def _leave(self) -> None:
        self.open_now.discard(self)
        self.asking.pop(self, None)
        self._cancel(self._head_timer)
        self._cancel(self._unread_timer)

    def _cancel(self, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def new_connection(config: uvicorn.Config, state: ServerState) -> asyncio.Protocol:
    """What serves a connection.

    Args:
        config: loaded.
        state: of the server that has the connection.
    """
    make: Callable[..., asyncio.Protocol] = config.http_protocol_class
    return make(config=config, server_state=state, app_state={})


def bounded_http(most_open: int, base: type[asyncio.Protocol] = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """One of uvicorn's classes for HTTP, bounded.

    Args:
        most_open: connections at once. One more takes the place of one that has sent no request, or is refused.
    """
    return type("BoundedHttp", (HttpBounds, base), {"most_open": most_open, "open_now": set(), "asking": {}})
