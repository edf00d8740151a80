"""Messages between the supervisor and a replica, over a socket pair; each may carry bytes and a connection.

A message is one packet of JSON, ``[kind, fields, number of sockets, whether there are bytes]``. The bytes are not in
it: they are in a memory file, whose descriptor goes with the packet, so that a packet stays small whatever a message
carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

MAX_QUEUED = 1024
"""Messages that wait until the other end reads. Beyond it `send` refuses: the other end hangs."""
MAX_QUEUED_SOCKETS = 64
"""Of these, messages with sockets: each takes a descriptor."""
TRY_AGAIN_S = 0.1
"""After a packet that could not be sent because the system lacks something."""
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.ETOOMANYREFS)
_PACKET_BYTES = 64 * 1024
_DESCRIPTORS = 2
_AT_ONCE = 64
"""Messages read before other work of the event loop has its turn."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received. Who receives it owns its sockets."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    sockets: tuple[socket.socket, ...] = ()
    """Fewer than were sent if no more files may be opened here; then there are none, and no bytes."""


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel, of which a child process may inherit one."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@dataclass(slots=True)
class _Packet:
    """One message to be sent."""

    text: bytes
    body: bytes
    sockets: list[int] = field(default_factory=list)
    """Descriptors of its own."""

    def send(self, end: socket.socket) -> None:
        """Send it.

        Raises:
            OSError: it can't be sent, or not now.
        """
        # Only now: while the other end reads nothing, what waits for it takes no descriptors.
        files = [_memory_file(self.body)] if self.body else []
        try:
            socket.send_fds(end, [self.text], [*self.sockets, *files])
        finally:
            _close(files)


class Channel:
    """One end. Needs a running event loop.

    Args:
        on_message: is called with each message, in order.
        on_end: is called once, when the other end is gone.
    """

    def __init__(self, end: socket.socket, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        end.setblocking(False)
        self._end = end
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Packet] = deque()
        self._waiting: asyncio.TimerHandle | None = None
        """While the system lacks something to send the first of them."""
        self._open = True
        self._loop.add_reader(end.fileno(), self.read)

    @property
    def open(self) -> bool:
        return self._open

    def send(self, kind: str, *, body: bytes = b"", sockets: Sequence[socket.socket] = (), **fields: Any) -> bool:
        """Send a message, now or as soon as the other end reads. The sockets stay the caller's, who may close them.

        Returns:
            Whether it will be sent; False if the other end is gone, or leaves too much unread.
        """
        if not self._open or len(self._queue) >= MAX_QUEUED:
            return False
        if sockets and sum(bool(packet.sockets) for packet in self._queue) >= MAX_QUEUED_SOCKETS:
            return False
        packet = _Packet(json.dumps([kind, fields, len(sockets), bool(body)]).encode(), body)
        try:
            packet.sockets += (os.dup(each.fileno()) for each in sockets)
        except OSError as error:
            logger.error("Can't send %s: %s", kind, error)
            _close(packet.sockets)
            return False
        self._queue.append(packet)
        if len(self._queue) == 1:
            self._flush()
        return self._open

    def read(self) -> bool:
        """Handle the messages that have arrived; returns whether there may be more."""
        for _ in range(_AT_ONCE):
            if not self._open:
                return False
            try:
                packet, descriptors = _receive(self._end)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                packet = b""
            if not packet:
                self._ended()
                return False
            self._on_message(_message(packet, descriptors))
        return True

    def close(self) -> None:
        """Close this end; what waits to be sent is dropped."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._end.fileno())
        self._loop.remove_writer(self._end.fileno())
        if self._waiting is not None:
            self._waiting.cancel()
        for packet in self._queue:
            _close(packet.sockets)
        self._queue.clear()
        self._end.close()

    def _flush(self) -> None:
        while self._queue:
            packet = self._queue[0]
            try:
                packet.send(self._end)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._end.fileno(), self._flush)
                return
            except OSError as error:
                if error.errno not in _LACKS:
                    self._ended()
                    return
                # Other processes of this user may have taken it: the other end is as well as before.
                logger.error("A message to another process has to wait: %s", error)
                self._loop.remove_writer(self._end.fileno())
                self._waiting = self._loop.call_later(TRY_AGAIN_S, self._flush)
                return
            _close(packet.sockets)
            self._queue.popleft()
        self._loop.remove_writer(self._end.fileno())

    def _ended(self) -> None:
        self.close()
        self._on_end()


def _receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """A packet, and the descriptors that came with it. `socket.recv_fds` ignores flags, so child processes would
    inherit these."""
    room = socket.CMSG_LEN(_DESCRIPTORS * array("i").itemsize)
    packet, ancillary, _, _ = end.recvmsg(_PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data)
    return packet, list(descriptors)


def _message(packet: bytes, descriptors: list[int]) -> Message:
    kind, fields, count, has_body = json.loads(packet)
    if len(descriptors) < count + has_body:
        logger.error("No more files can be opened, which takes something away from a message (%s)", kind)
        _close(descriptors)
        return Message(kind, fields)
    sockets = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors[:count])
    body = b"".join(_content(descriptor) for descriptor in descriptors[count:])
    return Message(kind, fields, body, sockets)


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _content(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
