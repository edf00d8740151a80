"""Runs the server: binds, loads, serves, and on a signal lets sessions finish before it exits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from types import FrameType
from typing import Literal

import uvicorn
from uvicorn.server import ServerState

from streaming_asr.core.recognizer import Recognizer, RecognizerUnavailable
from streaming_asr.engine.process import allow_descriptors, limit_blas_threads, tune_garbage_collection
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.server.app import Application
from streaming_asr.server.auth import MAX_DELAYED
from streaming_asr.server.fair_requests import most_waiting
from streaming_asr.server.http_bounds import HEAD_TIMEOUT_S, bounded_http, new_connection
from streaming_asr.server.listening import METRICS_FLAGS, AddressTaken, address, bind
from streaming_asr.server.live.connection import SHUTDOWN
from streaming_asr.server.live.deadlines import PAUSE_WITHIN_S
from streaming_asr.server.live.relay import MAX_RELAYS
from streaming_asr.server.live.websocket import MAX_HEAD_BYTES, DirectWebSocket, MovableWebSocket, why_not_direct
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas.link import Link
from streaming_asr.server.replicas.served import Served
from streaming_asr.server.service import Service
from streaming_asr.server.tls_connections import TlsConnections
from streaming_asr.server.tls_server import TlsServer

__all__ = ["AddressTaken", "serve"]

logger = logging.getLogger(__name__)

HARD_MESSAGE_FACTOR = 4
"""A message up to this many times the limit is answered by an error; for a longer one the socket is closed."""
OTHER_DESCRIPTORS = 500 + MAX_DELAYED
"""Files and sockets beside those of sessions and other connections: of recordings, their decoders, libraries, and of
handshakes that wait for an answer."""
PAUSE_SHARE = 1 / 3
"""Of the time to drain: what sessions may wait for their speaker's pause. The rest is for their last finals."""
LAST_CLOSE_S = 1
"""Time for sockets to close once sessions are done, seconds."""


class _Uvicorn(uvicorn.Server):
    """Uvicorn without its handling of signals, which would close sockets before sessions have finished."""

    def __init__(self, config: uvicorn.Config, on_signal: asyncio.Event, tls: TlsConnections | None) -> None:
        super().__init__(config)
        self._tls = tls
        self._on_signal = on_signal
        self._signalled = False
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        for bound in sockets or ():
            server = await _listen(bound, self.config, self.server_state, self._tls)
            self.servers.append(server)  # type: ignore[arg-type]  # It is only closed.

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not by the event: a replica may have been asked to end, too, and systemd signals every process of a service.
        if self._signalled:
            logger.warning("%s again: exiting at once", signal.Signals(sig).name)
            self.should_exit = self.force_exit = True
        self._signalled = True
        self._loop.call_soon_threadsafe(self._on_signal.set)


async def serve(recognizer: Recognizer, options: ServerOptions, link: Link | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let sessions finish within `drain_timeout_s`.

    Args:
        link: where this process is a replica: to the supervisor, which brings the clients.

    Raises:
        AddressTaken: the port is in use, or the host is not an address of this machine.
        RecognizerUnavailable: the recognizer can't run here.
        OptionError: an option can't be used here.
    """
    limit_blas_threads()
    _allow_descriptors(options)
    tls = options.tls()
    bound = bind(options.host, options.port, "--port or --host") if link is None else None
    application = Application(recognizer, options, link)
    service = application.service
    websocket, http = _protocols(options, movable=link is not None)
    metrics_config = _metrics_config(application, options)
    metrics = await _serve_metrics(metrics_config, options) if link is None and metrics_config else None
    config = uvicorn.Config(
        application.asgi,
        http=http,
        # The bounds refuse a longer head before; h11 would take one of 16 KiB.
        h11_max_incomplete_event_size=4 * MAX_HEAD_BYTES,
        ws=websocket,
        ws_max_size=options.max_message_bytes * HARD_MESSAGE_FACTOR,
        # Audio hardly shrinks, and each message would have to be decompressed.
        ws_per_message_deflate=False,
        # While the server throttles a fast sender it does not read, so no pong can reach it.
        ws_ping_timeout=None,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=bool(options.trusted_proxies),
        forwarded_allow_ips=list(options.trusted_proxies),
        timeout_graceful_shutdown=LAST_CLOSE_S,
    )
    config.load()
    config.ssl = tls
    shaken = TlsConnections(tls, options.max_http_connections, HEAD_TIMEOUT_S, service.fair_loop) if tls else None
    signalled = asyncio.Event()
    server = _Uvicorn(config, signalled, shaken)
    serving = asyncio.create_task(server.serve(sockets=[] if bound is None else [bound]), name="serve")
    if bound is not None:
        logger.info("Listening on %s", address(bound, tls=tls is not None))
    if link is not None:
        link.open(Served(application, server, metrics_config, signalled, shaken))
    draining = asyncio.create_task(_drain_on_signal(signalled, application, server), name="drain on a signal")
    failing = asyncio.create_task(_leave_when_failed(application, signalled), name="leave when the recognizer fails")
    loading = asyncio.create_task(_load(service), name="load the recognizer")
    try:
        await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not loading.cancelled():
            loading.result()
        await serving
    finally:
        server.should_exit = True
        if metrics is not None:
            metrics.close()
        for task in (loading, draining, failing):
            task.cancel()
        await asyncio.gather(serving, loading, draining, failing, return_exceptions=True)
        if link is not None:
            link.close()
        await service.close()
        logger.info("Stopped")
    if service.failed.is_set():
        raise RecognizerUnavailable("the recognizer died too often; the log says why")


def _allow_descriptors(options: ServerOptions) -> None:
    # As many HTTP connections as WebSockets without a session.
    wanted = options.max_sessions + 2 * options.max_http_connections + OTHER_DESCRIPTORS
    wanted += most_waiting(options.max_sessions)
    if options.certificate is not None:
        # TLS handshakes that are under way.
        wanted += options.max_http_connections
        if options.replicas > 1:
            wanted += 2 * MAX_RELAYS
    allowed = allow_descriptors(wanted)
    if allowed < wanted:
        logger.warning(
            "%d open files are allowed, and clients may take %d; raise the limit (`ulimit -n`), or lower "
            "--max-sessions or --max-http-connections: beyond it clients are not answered at all",
            allowed,
            wanted,
        )


async def _listen(
    bound: socket.socket, config: uvicorn.Config, state: ServerState, tls: TlsConnections | None = None
) -> asyncio.Server | TlsServer:
    """Accept connections. As uvicorn does, which does not bound TLS handshakes.

    Args:
        config: loaded.
        tls: if the connections have it.
    """

    def make() -> asyncio.Protocol:
        return new_connection(config, state)

    if tls is not None:
        return TlsServer(make, bound, tls)
    return await asyncio.get_running_loop().create_server(make, sock=bound, backlog=config.backlog)


def _metrics_config(application: Application, options: ServerOptions) -> uvicorn.Config | None:
    """Of an address where there are the metrics alone, if they have one."""
    if options.metrics_port is None:
        return None
    _, http = _protocols(options)
    config = uvicorn.Config(
        application.metrics_asgi, http=http, ws="none", lifespan="off", log_config=None, access_log=False
    )
    config.load()
    return config


async def _serve_metrics(config: uvicorn.Config, options: ServerOptions) -> asyncio.Server | TlsServer:
    """Serve the metrics at their own address.

    Raises:
        AddressTaken: it can't be listened on.
    """
    assert options.metrics_port is not None
    bound = bind(options.metrics_host, options.metrics_port, METRICS_FLAGS)
    server = await _listen(bound, config, ServerState())
    logger.info("Metrics on %s/metrics", address(bound, tls=False).partition(" ")[0])
    return server


async def _load(service: Service) -> None:
    await service.start()
    tune_garbage_collection()


def _protocols(
    options: ServerOptions, *, movable: bool = False
) -> tuple[type[asyncio.Protocol] | Literal["auto"], ...]:
    """The classes of WebSockets and of HTTP connections; uvicorn's own where ours can't be used."""
    if reason := why_not_direct():
        logger.warning("Messages come over plain ASGI, which costs more: %s", reason)
        return "auto", "auto"
    websocket = MovableWebSocket if movable else DirectWebSocket
    return websocket, bounded_http(options.max_http_connections)


async def _leave_when_failed(application: Application, signalled: asyncio.Event) -> None:
    await application.service.failed.wait()
    failure = Failure(FailureKind.RECOGNIZER_FAILED, "The recognizer can't be restarted; connect again later.")
    application.end_all(failure)
    application.recordings.end_all(failure)
    signalled.set()


async def _drain_on_signal(signalled: asyncio.Event, application: Application, server: uvicorn.Server) -> None:
    await signalled.wait()
    application.service.drain()
    limit = application.service.options.drain_timeout_s
    if unfinished := len(application.connections) + application.recordings.open:
        logger.info("Stopping: %d sessions get up to %g s to finish", unfinished, limit)
    application.end_all_at_pauses(SHUTDOWN, min(PAUSE_WITHIN_S, PAUSE_SHARE * limit))
    try:
        await asyncio.wait_for(application.all_closed(), limit)
    except asyncio.TimeoutError:
        logger.warning("%d sessions did not finish in time", len(application.connections) + application.recordings.open)
        application.recordings.end_all(SHUTDOWN)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(application.recordings.all_done(), LAST_CLOSE_S)
    server.should_exit = True
