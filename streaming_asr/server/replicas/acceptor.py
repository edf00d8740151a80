"""The sockets that listen: accepts connections while there is somebody to take them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 32
"""Connections accepted before other work of the event loop has its turn."""
ACCEPT_AGAIN_S = 0.5
"""After an accept that failed because the system lacks something."""


class Acceptor:
    """Accepts connections of several kinds, each on a socket of its own. Needs an event loop.

    Args:
        wanted: whether connections can be taken. While they can't, clients wait in the backlog, and `start` has to be
            called once they may be again.
        accepted: is given the kind of each connection, and its socket, which it owns.
    """

    def __init__(self, wanted: Callable[[], bool], accepted: Callable[[str, socket.socket], None]) -> None:
        self._wanted = wanted
        self._accepted = accepted
        self._listening: dict[str, socket.socket] = {}
        """By kind of the connections."""
        self._accepting = False

    def add(self, kind: str, listening: socket.socket) -> None:
        """Accept connections on this socket, from the next `start` on."""
        listening.setblocking(False)
        self._listening[kind] = listening

    def start(self) -> None:
        """Accept connections from now on, if that was not so and they are wanted."""
        if not self._accepting and self._wanted():
            self._accepting = True
            for kind, listening in self._listening.items():
                asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, kind, listening)

    def close(self) -> None:
        """Close the sockets that listen."""
        self._pause()
        for listening in self._listening.values():
            listening.close()
        self._listening.clear()

    def _pause(self) -> None:
        self._accepting = False
        for listening in self._listening.values():
            asyncio.get_running_loop().remove_reader(listening.fileno())

    def _accept(self, kind: str, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._wanted():
                self._pause()
                return
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.error("Can't accept a connection: %s", error)
                self._pause()
                asyncio.get_running_loop().call_later(ACCEPT_AGAIN_S, self.start)
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accepted(kind, connection)
