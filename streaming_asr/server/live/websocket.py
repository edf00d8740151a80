"""uvicorn's WebSocket, that gives all messages that have come at once, in its turn.

By ASGI each message wakes a task that asks for it, and the socket is stopped and started again: that costs more than to
hear a chunk of audio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from streaming_asr.server.live.fair_loop import FairLoop

Taker = Callable[[Sequence[str | bytes]], bool]
"""Takes messages; returns whether more may come now. If not, `DirectWebSocket.resume` must be called later."""

_KEY = "streaming_asr.websocket"


class DirectWebSocket(WebSocketsSansIOProtocol):
    """As uvicorn's, until somebody calls `direct`."""

    _taker: Taker | None = None
    _fair_loop: FairLoop

    async def run_asgi(self) -> None:
        self.scope["state"][_KEY] = self
        await super().run_asgi()

    def direct(self, taker: Taker, fair_loop: FairLoop) -> None:
        """Have a function take the messages from now on. Those that came before, and the end, are still `receive`d."""
        self._taker, self._fair_loop = taker, fair_loop
        self._unread: list[bytes] = []
        self._since: float | None = None
        """From when on data may lie in a socket that is not read; of `time.perf_counter`."""
        self._messages: list[str | bytes] = []

    def resume(self) -> None:
        """More messages may come."""
        self._since = None
        self._read_on()

    def send_now(self, message: str | bytes) -> bool:
        """Send a message; returns False, and does nothing, if it must wait or there is nobody to send it to."""
        over = self.close_sent or self.disconnected or self.transport.is_closing()
        if over or not self.handshake_complete or not self.writable.is_set():
            return False
        try:
            if isinstance(message, str):
                self.conn.send_text(message.encode())
            else:
                self.conn.send_binary(message)
        except InvalidState:
            return False
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def data_received(self, data: bytes) -> None:
        if self._taker is None:
            super().data_received(data)
            return
        if self._unread:
            # Its turn has not come yet: what comes from here on is read all at once, after it.
            self._pause()
        else:
            self._fair_loop.ask(self._take_turn, self._since or time.perf_counter())
            self._since = None
        self._unread.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._taker is not None and self._unread:
            self._take_turn()
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        if self._taker is None or self.close_sent or not self.queue.empty():
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        if self.curr_msg_data_type == "bytes":
            self._messages.append(bytes(data))
        else:
            try:
                self._messages.append(data.decode())
            except UnicodeDecodeError:
                super().send_receive_event_to_app()
        self.frames = []

    def _take_turn(self) -> None:
        if self._taker is None or not self._unread:
            return
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        super().data_received(data)
        if self._messages:
            messages, self._messages = self._messages, []
            if not self._taker(messages):
                self._pause()
                return
        self._read_on()

    def _read_on(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self._since = time.perf_counter()
            self.transport.pause_reading()


def direct_socket(websocket: WebSocket) -> DirectWebSocket | None:
    """What is under a WebSocket, where it can give its messages directly: under other ASGI servers it can't."""
    socket: DirectWebSocket | None = websocket.scope.get("state", {}).get(_KEY)
    return socket
