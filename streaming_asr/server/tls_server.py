"""A server whose TLS handshakes are bounded in number: asyncio's own shake hands by themselves, and what is under way
there can be neither counted nor closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""After a connection that could not be accepted, as when no more files may be opened; as asyncio's servers."""


class TlsServer:
    """Accepts connections from its creation on, until it is closed; in uvicorn's hands like an `asyncio.Server`.

    Args:
        make: the protocol of a connection; it is connected after the handshake.
        bound: listens.
        most: handshakes under way at once. One more takes the place of the one that has taken the longest; without
            that, one client could keep all others out.
        timeout_s: for each of them.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        bound: socket.socket,
        context: ssl.SSLContext,
        most: int,
        timeout_s: float,
    ) -> None:
        self._make = make
        self._bound = bound
        self._context = context
        self._most = most
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[asyncio.Task[None], None] = {}
        """Those under way, the one that has taken the longest first."""
        bound.setblocking(False)
        self._accepting = self._loop.create_task(self._accept_all(), name="accept TLS connections")

    def close(self) -> None:
        self._accepting.cancel()
        for handshake in self._handshakes:
            handshake.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._accepting, *self._handshakes, return_exceptions=True)

    async def _accept_all(self) -> None:
        try:
            while True:
                try:
                    accepted, _ = await self._loop.sock_accept(self._bound)
                except OSError as error:
                    # The client may be gone already.
                    if error.errno != errno.ECONNABORTED:
                        logger.error("A connection can't be accepted: %s", error)
                        await asyncio.sleep(_PAUSE_S)
                    continue
                self._begin(accepted)
        finally:
            self._bound.close()

    def _begin(self, accepted: socket.socket) -> None:
        if len(self._handshakes) >= self._most:
            longest = next(iter(self._handshakes))
            del self._handshakes[longest]
            longest.cancel()
        handshake = self._loop.create_task(self._shake(accepted), name="TLS handshake")
        self._handshakes[handshake] = None
        handshake.add_done_callback(lambda ended: self._handshakes.pop(ended, None))

    async def _shake(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make, accepted, ssl=self._context, ssl_handshake_timeout=self._timeout_s
            )
        except OSError as error:  # Also of TLS itself, and after the time.
            logger.debug("A TLS handshake failed: %s", error)
