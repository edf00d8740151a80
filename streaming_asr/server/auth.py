"""Access control: API keys from wherever a client can put one, pages by origin and host, and the routes they guard."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from uvicorn.protocols.utils import ClientDisconnected

from streaming_asr.protocols.failures import BROKEN, CloseCode, Failure, FailureKind
from streaming_asr.server.hosts import HostNames, host_name
from streaming_asr.server.key_guesses import KeyGuesses

logger = logging.getLogger(__name__)

_KEY_PREFIXES = ("key.", "openai-insecure-api-key.")
"""Prefixes of subprotocols that carry a key, for browsers, which can't set headers."""

UNAUTHORIZED = Failure(FailureKind.UNAUTHORIZED, "The API key is missing or wrong; send `Authorization: Bearer KEY`.")

Handler = Callable[[Request], Awaitable[Response]]
Endpoint = Callable[[WebSocket], Awaitable[None]]
Deny = Callable[[Failure], Response]
"""Makes the response to a refused request, in the form that its clients read."""


def offered_key(headers: Mapping[str, str], query: Mapping[str, str], subprotocols: Iterable[str] = ()) -> str | None:
    """The key that a client sends: `Authorization` (Bearer or Token), `X-API-Key`, query `token` or `api_key`, or a
    subprotocol (`key.KEY`; `token, KEY`). None if there is none.

    Args:
        headers: with lower-case names.
    """
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token") and credentials.strip():
        return credentials.strip()
    if key := headers.get("x-api-key") or query.get("token") or query.get("api_key"):
        return key
    offered = list(subprotocols)
    for protocol in offered:
        for prefix in _KEY_PREFIXES:
            if protocol.startswith(prefix):
                return protocol[len(prefix) :]
    if len(offered) >= 2 and offered[0].lower() in ("token", "bearer"):
        return offered[1]
    return None


def choose_subprotocol(subprotocols: Iterable[str]) -> str | None:
    """The subprotocol to accept: the first that is not a key. Browsers need one of those they offered."""
    return next((protocol for protocol in subprotocols if not protocol.startswith(_KEY_PREFIXES)), None)


def key_is_valid(offered: str | None, keys: Iterable[str]) -> bool:
    """Whether a key is valid, in a time that does not depend on where keys differ. Without `keys` every key is."""
    known = list(keys)
    if not known:
        return True
    given = (offered or "").encode()
    matches = [hmac.compare_digest(given, key.encode()) for key in known]
    return any(matches)


def origin_is_allowed(origin: str | None, host: str | None, allowed: Iterable[str]) -> bool:
    """Whether a page of this origin may connect: the server's own or an allowed one. So may a client without origin."""
    if origin is None or "*" in allowed or origin in allowed:
        return True
    try:
        netloc = urlsplit(origin).netloc
    except ValueError:
        return False
    return host is not None and netloc.lower() == host.lower()


UNGUESSABLE_CHARS = 16
"""A key of this length is not found by guessing, however many guesses are looked at, if it was made at random."""

GUESS_DELAY_S = 1.0
"""By which the answer to a key that is not looked at is delayed."""
MAX_DELAYED = 1000
"""Such answers at once; more are not delayed."""


class Guard:
    """Makes the server's routes. Each of them checks the host, and, unless it is made with `open=True`, origin and key.

    Args:
        keys: the server's API keys; without any, every request is admitted.
        origins: browser origins that may send requests, besides the server's own.
        issued: whether a key is one of those that the server issued, which open WebSockets only.
        deny: the response to a refused request, for routes that name no other.
        hosts: the hosts that requests may name; None: any.
    """

    def __init__(
        self,
        keys: Sequence[str],
        origins: Sequence[str],
        issued: Callable[[str | None], bool],
        deny: Deny,
        hosts: HostNames | None = None,
    ) -> None:
        self._keys = keys
        self._long_keys = [key for key in keys if len(key) >= UNGUESSABLE_CHARS]
        self._origins = origins
        self._issued = issued
        self._deny = deny
        self._hosts = hosts
        self._guesses = KeyGuesses()
        self._delayed = 0

    async def refusal(self, connection: HTTPConnection) -> Failure | None:
        """The reason to refuse a request or a handshake; None to accept it. Clients that go on guessing keys wait for
        it: else they would take as much of the server's time as they can.
        """
        refusal = self._wrong_host(connection) or self._not_admitted(connection)
        if refusal is not None and refusal.kind is FailureKind.TOO_MANY_GUESSES and self._delayed < MAX_DELAYED:
            self._delayed += 1
            try:
                await asyncio.sleep(GUESS_DELAY_S)
            finally:
                self._delayed -= 1
        return refusal

    def _not_admitted(self, connection: HTTPConnection) -> Failure | None:
        """The reason not to admit the client, by its origin and its key."""
        origin, host = connection.headers.get("origin"), connection.headers.get("host")
        if not origin_is_allowed(origin, host, self._origins):
            return Failure(FailureKind.FORBIDDEN_ORIGIN, f"Pages of {origin} may not connect here.")
        if not self._keys:
            return None
        key = key_of(connection)
        if key is None:
            return UNAUTHORIZED
        # Nobody can guess an issued one, so that it needs no bound.
        if connection.scope["type"] == "websocket" and self._issued(key):
            return None
        address, now = address_of(connection), time.monotonic()
        wait_s = self._guesses.wait_s(address, key, now)
        if wait_s and not (self._long_keys and key_is_valid(key, self._long_keys)):
            return Failure(FailureKind.TOO_MANY_GUESSES, f"Too many wrong API keys; try again in {wait_s:.0f} s.")
        if key_is_valid(key, self._keys):
            self._guesses.right(address, key)
            return None
        self._guesses.wrong(address, now)
        return UNAUTHORIZED

    def _wrong_host(self, connection: HTTPConnection) -> Failure | None:
        host = connection.headers.get("host")
        if self._hosts is None or self._hosts.allow(host):
            return None
        name = host_name(host or "") or host
        reason = f"The server does not know itself as {name}; its option --allowed-host {name} allows that name."
        return Failure(FailureKind.FORBIDDEN_HOST, reason)

    def route(
        self,
        path: str,
        handler: Handler,
        *,
        methods: Sequence[str] = ("GET",),
        deny: Deny | None = None,
        open: bool = False,
    ) -> Route:
        """A route over HTTP.

        Args:
            deny: the response to a refused request.
            open: whether neither a key is needed nor the origin checked.
        """

        async def guarded(request: Request) -> Response:
            if refusal := self._wrong_host(request) if open else await self.refusal(request):
                return (deny or self._deny)(refusal)
            return await handler(request)

        return Route(path, guarded, methods=methods)

    def websocket(self, path: str, endpoint: Endpoint, *, deny: Deny | None = None) -> WebSocketRoute:
        """A route of WebSockets. An unexpected exception is logged, and refuses the
        handshake or closes the WebSocket.

        Args:
            deny: the response to a refused handshake.
        """

        async def guarded(websocket: WebSocket) -> None:
            respond = deny or self._deny
            try:
                if refusal := await self.refusal(websocket):
                    await websocket.send_denial_response(respond(refusal))
                else:
                    await endpoint(websocket)
            except (WebSocketDisconnect, ClientDisconnected):
                raise
            except Exception:
                logger.exception("A WebSocket failed")
                if websocket.application_state is WebSocketState.CONNECTING:
                    await websocket.send_denial_response(respond(BROKEN))
                elif websocket.application_state is WebSocketState.CONNECTED:
                    await websocket.close(CloseCode.INTERNAL, BROKEN.code)

        return WebSocketRoute(path, guarded)


def address_of(connection: HTTPConnection) -> str:
    """The address that a request or handshake comes from; of one through a trusted proxy, what that reports."""
    return connection.client.host if connection.client else ""


def key_of(connection: HTTPConnection) -> str | None:
    """The key that a request or handshake offers; see `offered_key`."""
    return offered_key(connection.headers, connection.query_params, connection.scope.get("subprotocols", ()))
