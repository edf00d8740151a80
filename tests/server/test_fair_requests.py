"""Requests of one address come later, the more they cost, and those of others do not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.websockets import WebSocket

from streaming_asr.server import fair_requests
from streaming_asr.server.fair_requests import (
    ADDRESS_SHARE,
    COST_S,
    HEALTH,
    MAX_HEALTH_WAIT_S,
    MAX_WAIT_S,
    FairRequests,
    account_of,
)
from streaming_asr.server.live.fair_loop import OPENING_S, Account, FairLoop
from streaming_asr.server.metrics import Metrics

FACTOR = 1 / ADDRESS_SHARE - 1
"""How long an address rests for each second of its requests."""


class Clients:
    """Sends requests to an application that only notes them; each of them costs some processor time."""

    def __init__(self, *, speaking: bool = True, max_sessions: int = 0) -> None:
        self.metrics = Metrics()
        self.cost_s = 0.0
        self.accounts: list[Account] = []
        self._fair = FairRequests(self._app, FairLoop(lambda _: None, lambda: speaking), self.metrics, max_sessions)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            self.accounts.append(account_of(WebSocket(scope, receive, send)))
        until = time.thread_time() + self.cost_s
        while time.thread_time() < until:
            pass

    async def took_s(self, address: str, kind: str = "websocket", path: str = "/v1/stream") -> float:
        """How long a request took."""
        began = time.monotonic()
        assert await self.statuses(address, kind, path) == []
        return time.monotonic() - began

    async def statuses(self, address: str, kind: str = "websocket", path: str = "/v1/stream") -> list[int]:
        """The statuses of responses that do not come from the application."""
        sent: list[int] = []

        async def send(message: Any) -> None:
            if "status" in message:
                sent.append(message["status"])

        scope = {
            "type": kind,
            "method": "GET",
            "path": path,
            "client": (address, 1),
            "headers": [],
            "extensions": {"websocket.http.response": {}},
        }
        await self._fair(scope, asyncio.Queue().get, send)
        return sent


def _run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_while_somebody_speaks_the_handshakes_of_an_address_come_one_after_the_other() -> None:
    async def scenario() -> None:
        clients = Clients()
        took = await asyncio.gather(*(clients.took_s("10.0.0.1") for _ in range(20)))
        assert took == sorted(took)
        assert took[-1] >= 19 * COST_S * FACTOR - 0.01
        assert await clients.took_s("10.0.0.2") < took[-1] / 4

    _run(scenario)


def test_nobody_waits_while_nobody_speaks() -> None:
    async def scenario() -> None:
        clients = Clients(speaking=False)
        for _ in range(1000):
            await clients.took_s("10.0.0.1")

    _run(scenario)


def test_what_a_request_costs_is_charged_to_its_address() -> None:
    async def scenario() -> None:
        clients = Clients()
        clients.cost_s = 0.05
        await clients.took_s("10.0.0.1", "http", "/metrics")
        clients.cost_s = 0.0
        assert await clients.took_s("10.0.0.1", "http", "/metrics") >= 0.05 * FACTOR - 0.01
        assert await clients.took_s("10.0.0.1", "http", "/metrics") < 0.05 * FACTOR

    _run(scenario)


def test_what_a_session_costs_at_first_is_charged_to_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        clients = Clients()
        await clients.took_s("10.0.0.1")
        clients.accounts[0].charge(0.05)
        assert await clients.took_s("10.0.0.1") >= 0.05 * FACTOR - 0.01
        late = time.monotonic() + OPENING_S
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: late)
            clients.accounts[0].charge(1000.0)
        # The session is on its own by now.
        assert await clients.took_s("10.0.0.1") < 1

    _run(scenario)


@pytest.mark.parametrize(("path", "most_s"), [("/v1/stream", MAX_WAIT_S), (HEALTH[0], MAX_HEALTH_WAIT_S)])
def test_a_request_waits_only_so_long(path: str, most_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(wait_s: float) -> None:
        waits.append(wait_s)

    async def scenario() -> None:
        clients = Clients()
        await clients.took_s("10.0.0.1")
        clients.accounts[0].charge(1000.0)
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            await clients.took_s("10.0.0.1", path=path)
        assert waits == [most_s]

    _run(scenario)


@pytest.mark.parametrize("kind", ["websocket", "http"])
def test_requests_that_wait_are_bounded_and_others_are_not_kept_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_requests, "MAX_WAITING_AT_ADDRESS", 3)

    async def scenario() -> None:
        clients = Clients()
        await clients.took_s("10.0.0.1")
        clients.accounts[0].charge(1000.0)
        waiting = [asyncio.create_task(clients.took_s("10.0.0.1")) for _ in range(3)]
        await asyncio.sleep(0)
        assert await clients.statuses("10.0.0.1", kind) == [503]
        assert clients.metrics.refusals.labels("busy")._value.get() == 1
        await clients.took_s("10.0.0.2", kind)
        assert await clients.took_s("10.0.0.2", kind) > 0, "and another one may wait"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        again = asyncio.create_task(clients.took_s("10.0.0.1"))
        await asyncio.sleep(0)
        assert not again.done()
        again.cancel()

    _run(scenario)


def test_as_many_clients_of_one_address_may_wait_as_there_may_be_sessions() -> None:
    """After a restart all of them come at once, maybe through one proxy."""

    async def scenario() -> None:
        clients = Clients(max_sessions=600)
        await clients.took_s("10.0.0.1")
        clients.accounts[0].charge(1000.0)
        waiting = [asyncio.create_task(clients.statuses("10.0.0.1")) for _ in range(601)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [[503]]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    _run(scenario)


@pytest.mark.parametrize("bound", ["MAX_WAITING_AT_ADDRESS", "MAX_WAITING"])
def test_the_health_is_reported_however_many_wait(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_requests, bound, 1)

    async def scenario() -> None:
        clients = Clients()
        await clients.took_s("10.0.0.1")
        clients.accounts[0].charge(1000.0)
        waiting = asyncio.create_task(clients.took_s("10.0.0.1"))
        await asyncio.sleep(0)
        assert await clients.statuses("10.0.0.1") == [503]
        for path in HEALTH:
            assert await clients.took_s("10.0.0.1", "http", path) < 2 * MAX_HEALTH_WAIT_S
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    _run(scenario)
