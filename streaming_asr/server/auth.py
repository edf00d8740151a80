"""Access control: API keys from wherever a client can put one, origins of browser pages, and the routes they guard."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from uvicorn.protocols.utils import ClientDisconnected

from streaming_asr.protocols.failures import BROKEN, CloseCode, Failure, FailureKind

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


WRONG_KEY_DELAY_S = 0.5
"""By which the answer to a wrong key is delayed."""
MAX_DELAYED = 1000
"""Such answers at once; more are not delayed."""


class Guard:
    """Makes the server's routes. Each of them checks the API key, unless it is made with `open=True`.

    Args:
        keys: the server's API keys; without any, every request is admitted.
        origins: browser origins that may open WebSockets, besides the server's own.
        issued: whether a key is one of those that the server issued, which open WebSockets only.
        deny: the response to a refused request, for routes that name no other.
    """

    def __init__(
        self, keys: Sequence[str], origins: Sequence[str], issued: Callable[[str | None], bool], deny: Deny
    ) -> None:
        self._keys = keys
        self._origins = origins
        self._issued = issued
        self._deny = deny
        self._delayed = 0

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether a request or handshake offers one of the server's API keys, or the server has none."""
        return key_is_valid(key_of(connection), self._keys)

    async def _delay(self, connection: HTTPConnection) -> None:
        """Make the next guess of a key wait."""
        if key_of(connection) is None or self._delayed >= MAX_DELAYED:
            return
        self._delayed += 1
        try:
            await asyncio.sleep(WRONG_KEY_DELAY_S)
        finally:
            self._delayed -= 1

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
            deny: the response to a request without the key.
            open: whether the key is not needed.
        """

        async def guarded(request: Request) -> Response:
            if not self.admits(request):
                await self._delay(request)
                return (deny or self._deny)(UNAUTHORIZED)
            return await handler(request)

        return Route(path, handler if open else guarded, methods=methods)

    def websocket(self, path: str, endpoint: Endpoint, *, deny: Deny | None = None) -> WebSocketRoute:
        """A route of WebSockets, which checks the page's origin too. An unexpected exception is logged, and refuses the
        handshake or closes the WebSocket.

        Args:
            deny: the response to a refused handshake.
        """

        async def guarded(websocket: WebSocket) -> None:
            respond = deny or self._deny
            try:
                if refusal := self._refusal(websocket):
                    await self._delay(websocket)
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

    def _refusal(self, websocket: WebSocket) -> Failure | None:
        """The reason to refuse a handshake; None to accept it."""
        origin, host = websocket.headers.get("origin"), websocket.headers.get("host")
        if not origin_is_allowed(origin, host, self._origins):
            return Failure(FailureKind.FORBIDDEN_ORIGIN, f"Pages of {origin} may not connect here.")
        if not self._issued(key_of(websocket)) and not self.admits(websocket):
            return UNAUTHORIZED
        return None


def key_of(connection: HTTPConnection) -> str | None:
    """The key that a request or handshake offers; see `offered_key`."""
    return offered_key(connection.headers, connection.query_params, connection.scope.get("subprotocols", ()))
