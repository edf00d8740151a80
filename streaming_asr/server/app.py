"""The routes: a WebSocket for each protocol, and HTTP."""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.websockets import WebSocket

from streaming_asr import __version__
from streaming_asr.core.events import SessionWarning
from streaming_asr.core.recognizer import Recognizer
from streaming_asr.protocols.base import BadRequest, Handshake, WireProtocol, plain_refusal
from streaming_asr.protocols.failures import BROKEN, Failure, FailureKind
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.auth import Endpoint, Guard, address_of, choose_subprotocol, key_of
from streaming_asr.server.fair_requests import FairRequests, account_of
from streaming_asr.server.hosts import HostNames
from streaming_asr.server.live.connection import Connection, conversation_limits
from streaming_asr.server.live.conversation_state import State
from streaming_asr.server.live.live_conversation import LiveConversation
from streaming_asr.server.openai_http.client_secrets import ClientSecrets, issue_client_secret
from streaming_asr.server.openai_http.recordings import Recordings
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.pages import page_routes
from streaming_asr.server.replicas.link import READY, Link
from streaming_asr.server.service import Service


class Application:
    """The ASGI application: one service, and the connections it has.

    Args:
        link: to the other replicas, if there are any.
    """

    def __init__(self, recognizer: Recognizer, options: ServerOptions, link: Link | None = None) -> None:
        self._link = link
        self.service = Service(recognizer, options, self._warn_all)
        self.recordings = Recordings(self.service)
        self.client_secrets = ClientSecrets() if link is None else ClientSecrets(share=link.share_secret)
        self.connections: dict[Connection, None] = {}
        """In the order in which they were accepted."""
        self._conversations: set[LiveConversation] = set()
        """Those of all connections, and those that are parked."""
        self._none_open = asyncio.Event()
        self._none_open.set()
        # With a key, a page that reaches the server under a name of its own still lacks the key.
        checked = not options.api_keys or bool(options.allowed_hosts)
        hosts = HostNames(options.host, options.allowed_hosts) if checked else None
        guard = Guard(options.api_keys, options.allowed_origins, self._issued, self._denied, hosts)
        routes: list[BaseRoute] = [
            # Load balancers ask for these, by whatever name.
            Route("/healthz", self._healthy),
            Route("/readyz", self._ready),
            *self.recordings.routes(guard),
            *page_routes(self.service, guard),
            guard.route("/v1/realtime/client_secrets", self._client_secret, methods=["POST"]),
        ]
        for path, protocol in PROTOCOLS.items():
            deny = partial(self._denied, protocol=protocol)
            routes.append(guard.websocket(path, self._endpoint(path, protocol), deny=deny))
        routes.append(guard.websocket("/{path:path}", self._nowhere))
        if options.metrics_port is None:
            routes.append(guard.route("/metrics", self._metrics))
        fair = [Middleware(FairRequests, self.service.fair_loop, self.service.metrics, options.max_sessions)]
        handlers: dict[Any, Any] = {ClientDisconnect: self._hung_up, Exception: self._broken}
        self.asgi = Starlette(routes=routes, middleware=fair, exception_handlers=handlers)
        metrics = [Route("/metrics", self._metrics)]
        self.metrics_asgi = Starlette(routes=metrics, middleware=fair, exception_handlers=handlers)
        """Only the metrics, for an address of their own."""

    def end_all(self, failure: Failure) -> None:
        """End every session, once it has transcribed what it received."""
        for live in list(self._conversations):
            live.end(failure)

    def end_all_at_pauses(self, failure: Failure, within_s: float) -> None:
        """As `end_all`, but each at its speaker's next pause, or within this time (seconds)."""
        for live in list(self._conversations):
            live.end_at_pause(failure, within_s)

    def _warn_all(self, warning: SessionWarning) -> None:
        for live in list(self._conversations):
            live.warn(warning)

    async def all_closed(self) -> None:
        """Return once no connection is open and no recording is being transcribed."""
        await self._none_open.wait()
        await self.recordings.all_done()

    async def _healthy(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def _ready(self, request: Request) -> Response:
        ready, about = self.service.ready, dict[str, object](status=self.service.status)
        if self._link is not None:
            # Others take the sessions, if there are others.
            if ready := ready or self._link.any_ready:
                about["status"] = READY
            about["replicas"] = self._link.statuses
        return JSONResponse(about, status_code=200 if ready else 503)

    async def _nowhere(self, websocket: WebSocket) -> None:
        """Refuse a WebSocket at any other path. Starlette would answer 403, as if the client were not allowed to."""
        paths = ", ".join(PROTOCOLS)
        await websocket.send_denial_response(PlainTextResponse(f"WebSockets are at {paths}.\n", status_code=404))

    async def _metrics(self, request: Request) -> Response:
        if self._link is None:
            return Response(self.metrics_text(), media_type=CONTENT_TYPE_LATEST)
        try:
            text = await self._link.all_metrics()
        except asyncio.TimeoutError:
            return Response("The replicas do not answer.\n", status_code=503, media_type="text/plain")
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    def metrics_text(self) -> bytes:
        """The metrics of this process."""
        for live in self._conversations:
            live.conversation.meter()
        held = sum(live.conversation.held_s for live in self._conversations)
        self.service.metrics.held.set(held)
        return self.service.metrics.text()

    @property
    def idle_connections(self) -> int:
        """Connections whose conversation is over: the client has not read its end yet."""
        lives = (connection.live for connection in self.connections)
        return sum(live is None or live.conversation.state is State.CLOSED for live in lives)

    async def _client_secret(self, request: Request) -> Response:
        options = self.service.options
        return await issue_client_secret(request, self.client_secrets, options.session, self.service.models)

    def _endpoint(self, path: str, protocol: WireProtocol) -> Endpoint:
        async def endpoint(websocket: WebSocket) -> None:
            subprotocols = tuple(websocket.scope["subprotocols"])
            options = self.service.options
            handshake = Handshake(
                path=path,
                query=tuple(websocket.query_params.multi_items()),
                headers=dict(websocket.headers),
                subprotocols=subprotocols,
                time=time.time(),
                session=self.client_secrets.session_of(key_of(websocket), time.monotonic()) or {},
                models=self.service.models,
                resume_token=self._new_token(),
                resume_s=options.resume_s if options.max_parked_mib else 0.0,
            )
            try:
                translator = protocol.translator(handshake, options.session)
            except BadRequest as error:
                refusal = Failure(FailureKind.BAD_OPTION, str(error))
                await websocket.send_denial_response(self._denied(refusal, protocol))
                return
            await websocket.accept(subprotocol=choose_subprotocol(subprotocols))
            live = LiveConversation(
                translator,
                self.service,
                conversation_limits(options),
                self.service.observer(path, handshake.headers),
                self.service.voice,
                self.service.turns,
                self.service.parking,
                self.service.files,
                key_of(websocket) or "",
                handshake.resume_s,
                self._conversations.discard,
                address_of(websocket),
            )
            self._conversations.add(live)
            connection = Connection(websocket, live, self.service, self._link, account_of(websocket))
            self._make_room()
            self.connections[connection] = None
            self._none_open.clear()
            try:
                await connection.run()
            finally:
                self.connections.pop(connection, None)
                if not self.connections:
                    self._none_open.set()

        return endpoint

    def _make_room(self) -> None:
        """Close the first connection without a session, where there are too many: one client could keep all others out
        by connections on which it claims nothing, or does not read that it was refused."""
        options = self.service.options
        if len(self.connections) < options.max_sessions + options.max_http_connections:
            return
        first = next((connection for connection in self.connections if not connection.has_session), None)
        if first is not None:
            del self.connections[first]
            first.give_place()

    def _new_token(self) -> str:
        """With which a client may claim its session; of several replicas it names the one that has it."""
        token = secrets.token_urlsafe(24)
        return token if self._link is None else f"{self._link.number}.{token}"

    async def _hung_up(self, request: Request, error: Exception) -> Response:
        """The response to a client that is gone, which nobody reads."""
        return Response(status_code=400)

    async def _broken(self, request: Request, error: Exception) -> Response:
        """The response to an unexpected exception. It is raised again afterwards, and logged by uvicorn."""
        self.service.metrics.errors.labels(BROKEN.code).inc()
        return JSONResponse(plain_refusal(BROKEN).body, status_code=BROKEN.kind.status)

    def _issued(self, key: str | None) -> bool:
        return self.client_secrets.lives(key, time.monotonic())

    def _denied(self, refusal: Failure, protocol: WireProtocol | None = None) -> Response:
        self.service.metrics.refusals.labels(refusal.code).inc()
        answer = (protocol.refused if protocol else plain_refusal)(refusal)
        headers = {"WWW-Authenticate": "Bearer"} if refusal.kind.status == 401 else {}
        return JSONResponse(answer.body, status_code=refusal.kind.status, headers={**headers, **answer.headers})
