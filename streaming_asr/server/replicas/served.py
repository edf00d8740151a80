"""The server of a replica, as the supervisor's other end: its state, and the connections that it is given."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import uvicorn
from uvicorn.server import ServerState

from streaming_asr.server.app import Application
from streaming_asr.server.http_bounds import new_connection
from streaming_asr.server.live.websocket import DirectWebSocket
from streaming_asr.server.replicas.link import Report
from streaming_asr.server.tls_connections import TlsConnections

logger = logging.getLogger(__name__)


class Served:
    """See `link.Host`.

    Args:
        server: started; its configuration is loaded.
        metrics: configuration of connections to the metrics' own address.
        ending: is set when the sessions are to finish.
        tls: of connections that are given here, if they have it.
    """

    def __init__(
        self,
        application: Application,
        server: uvicorn.Server,
        metrics: uvicorn.Config | None,
        ending: asyncio.Event,
        tls: TlsConnections | None,
    ) -> None:
        self._application = application
        self._server = server
        self._metrics = metrics
        self._metrics_state = ServerState()
        self._ending = ending
        self._tls = tls
        self._connecting: set[asyncio.Task[None]] = set()
        """Connections that are not there yet."""

    def report(self) -> Report:
        service, taken = self._application.service, self._taken()
        return Report(service.status, taken, len(service.parking.parked), service.room(taken))

    def accept(self, connection: socket.socket) -> None:
        config, state = self._server.config, self._server.server_state
        if self._tls is None:
            self._connect(connection, new_connection(config, state))
        else:
            self._tls.begin(connection, lambda: new_connection(config, state))

    def accept_metrics(self, connection: socket.socket) -> None:
        if self._metrics is None:
            connection.close()
            return
        self._connect(connection, new_connection(self._metrics, self._metrics_state))

    def continue_claim(self, connection: socket.socket, received: bytes, client: tuple[str, int] | None) -> None:
        config = self._server.config
        if not issubclass(config.ws_protocol_class or object, DirectWebSocket):
            connection.close()
            return
        websocket = DirectWebSocket(config=config, server_state=self._server.server_state, app_state={})
        websocket.continued, websocket.relayed_for = bytearray(received), client
        self._connect(connection, websocket)

    def add_secret(self, digest: bytes, expires: float, session: bytes) -> None:
        self._application.client_secrets.add(digest, expires, session, time.monotonic())

    def metrics(self) -> bytes:
        return self._application.metrics_text()

    def drain(self) -> None:
        self._ending.set()

    def exit(self) -> None:
        self._server.should_exit = self._server.force_exit = True

    def abandoned(self) -> None:
        logger.error("The supervisor is gone; this replica ends, too")
        self.drain()

    def _taken(self) -> int:
        """Sessions, and connections that may still open one: that have sent no request yet, or whose request has no
        complete answer. It may be for a recording, which opens its session late."""
        application = self._application
        connections = self._server.server_state.connections
        requests = [each for each in connections if hasattr(each, "cycle")]
        pending = sum(each.cycle is None or not each.cycle.response_complete for each in requests)
        websockets = len(connections) - len(requests) - application.idle_connections
        connecting = len(self._connecting) + (len(self._tls) if self._tls else 0)
        return connecting + pending + websockets + len(application.service.parking.parked)

    def _connect(self, connection: socket.socket, protocol: asyncio.Protocol) -> None:
        connecting = asyncio.create_task(_connect(connection, protocol), name="connect")
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)


async def _connect(connection: socket.socket, protocol: asyncio.Protocol) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
    except OSError as error:
        logger.debug("A connection broke before its first request: %s", error)
