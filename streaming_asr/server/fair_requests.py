"""Requests and handshakes: those of one address take a tenth of the event loop, and no more.

Without that, a client could keep the server busy with requests, or with sessions that it leaves at once, each of them
within its bounds.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from streaming_asr.protocols.base import plain_refusal
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.server.addresses import PerAddress
from streaming_asr.server.auth import address_of
from streaming_asr.server.live.fair_loop import Account, FairLoop
from streaming_asr.server.metrics import Metrics

ADDRESS_SHARE = 0.1
"""Of the event loop's time, what the requests and openings of one address have while somebody speaks."""
COST_S = 0.003
"""Processor time of a handshake with the session that it opens, or of a request with a body, about."""
MAX_WAIT_S = 4.0
"""Of a request. Clients give up after about ten seconds, and many may share an address: after a restart all of them
come at once."""
HEALTH, MAX_HEALTH_WAIT_S = ("/healthz", "/readyz"), 0.5
"""Who asks for these may share the address of a client, and takes the server for dead soon."""
MAX_WAITING_AT_ADDRESS, MAX_WAITING = 256, 512
"""Requests of one address, and of all, at once, or of one as many as there may be sessions, and of all twice as many:
after a restart all clients may come from one address. A further one that would have to wait is refused. One for the
health is not: a server that says that it is busy would be taken for dead, and be ended."""

_ACCOUNT = "streaming_asr.account"
_TOO_FAST = Failure(FailureKind.BUSY, "The server is busy, and your address sends requests too fast; try again later.")


@dataclass(slots=True)
class _Address:
    account: Account = field(default_factory=lambda: Account(share=ADDRESS_SHARE))
    waiting: int = 0
    """Requests."""


class FairRequests:
    """ASGI middleware: while somebody speaks, requests of an address that has had more than its share come later.

    What a session costs in its first seconds is charged to the address, too. Bodies are not: recordings have bounds of
    their own, and should not keep those waiting who speak behind the same proxy.

    Args:
        max_sessions: of the server.
    """

    def __init__(self, app: ASGIApp, fair_loop: FairLoop, metrics: Metrics, max_sessions: int = 0) -> None:
        self._app = app
        self._max_sessions = max_sessions
        self._fair_loop = fair_loop
        self._metrics = metrics
        self._addresses = PerAddress(_Address)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        address = self._addresses.get(address_of(HTTPConnection(scope)))
        account = address.account
        of_health = scope["path"] in HEALTH
        wait_s = min(MAX_HEALTH_WAIT_S if of_health else MAX_WAIT_S, self._fair_loop.wait_s(account))
        at_address, most = max(MAX_WAITING_AT_ADDRESS, self._max_sessions), most_waiting(self._max_sessions)
        full = address.waiting >= at_address or self._waiting >= most
        if wait_s and full and not of_health:
            await self._refuse(scope, receive, send)
            return
        measured = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not measured:
            # Now, so that the next one waits for this one, too.
            account.charge(COST_S)
        if wait_s:
            self._waiting += 1
            address.waiting += 1
            try:
                await asyncio.sleep(wait_s)
            finally:
                self._waiting -= 1
                address.waiting -= 1
        if scope["type"] == "websocket":
            scope[_ACCOUNT] = Account(account)
        began = time.thread_time()
        await self._app(scope, receive, send)
        if measured:
            account.charge(time.thread_time() - began)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.refusals.labels(_TOO_FAST.code).inc()
        answer = plain_refusal(_TOO_FAST)
        response = JSONResponse(answer.body, status_code=_TOO_FAST.kind.status, headers=answer.headers)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)


def most_waiting(max_sessions: int) -> int:
    """Requests that may wait at once, of all addresses."""
    return max(MAX_WAITING, 2 * max_sessions)


def account_of(connection: HTTPConnection) -> Account:
    """What a WebSocket is charged to."""
    account: Any = connection.scope.get(_ACCOUNT)
    return account if isinstance(account, Account) else Account()
