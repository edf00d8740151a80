"""A server whose TLS handshakes are bounded: asyncio's own shake hands by themselves, and what is under way
there can be neither counted nor closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from streaming_asr.server.tls_connections import TlsConnections

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""After a connection that could not be accepted, as when no more files may be opened; as asyncio's servers."""


class TlsServer:
    """Accepts connections from its creation on, until it is closed; in uvicorn's hands like an `asyncio.Server`.

    Args:
        make: the protocol of a connection; it is connected after the handshake.
        bound: listens.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol], bound: socket.socket, connections: TlsConnections) -> None:
        self._make = make
        self._bound = bound
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        bound.setblocking(False)
        self._accepting = self._loop.create_task(self._accept_all(), name="accept TLS connections")

    def close(self) -> None:
        self._accepting.cancel()
        self._connections.close()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._accepting, return_exceptions=True)
        await self._connections.wait_closed()

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
                self._connections.begin(accepted, self._make)
        finally:
            self._bound.close()
