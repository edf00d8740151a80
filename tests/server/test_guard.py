"""Which routes need the API key: all but those listed here."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server import auth
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer

OPEN = {"/", "/captions", "/web", "/client", "/v1/about", "/healthz", "/readyz", "/metrics"}
"""The page with what it loads, and what operators ask."""
KEY = {"Authorization": "Bearer real"}
OPTIONS = ServerOptions(api_keys=("real",), session=SessionOptions(vad="webrtc"))


def _routes() -> list[BaseRoute]:
    return Application(FakeRecognizer(), OPTIONS).asgi.routes


def _paths(kind: type[Route] | type[WebSocketRoute] | type[Mount]) -> list[str]:
    return [route.path for route in _routes() if isinstance(route, kind)]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    application = Application(FakeRecognizer(), OPTIONS)
    with TestClient(application.asgi) as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


def test_each_route_is_one_of_the_kinds_that_are_tested_here() -> None:
    assert all(isinstance(route, Route | WebSocketRoute | Mount) for route in _routes())
    assert set(_paths(Mount)) == {"/web", "/client"}
    assert set(_paths(Route)) | set(_paths(Mount)) >= OPEN
    assert set(_paths(WebSocketRoute)) == set(PROTOCOLS)


@pytest.mark.parametrize("route", [route for route in _routes() if isinstance(route, Route)], ids=lambda it: it.path)
def test_a_request_without_the_key_is_refused(client: TestClient, route: Route) -> None:
    for method in route.methods or ():
        assert (client.request(method, route.path).status_code == 401) is (route.path not in OPEN)
        wrong = client.request(method, route.path, headers={"Authorization": "Bearer other"})
        assert (wrong.status_code == 401) is (route.path not in OPEN)
        assert client.request(method, route.path, headers=KEY).status_code != 401


@pytest.mark.parametrize("path", _paths(WebSocketRoute))
def test_a_handshake_without_the_key_is_refused(client: TestClient, path: str) -> None:
    assert path not in OPEN
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer other"}, 401),
        ({**KEY, "Origin": "http://x.y"}, 403),
    ):
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(path, headers=headers):
            pass
        assert refused.value.status_code == status


def test_without_keys_every_route_is_open() -> None:
    client = TestClient(Application(FakeRecognizer(), ServerOptions()).asgi)
    for path in _paths(Route):
        assert client.get(path).status_code != 401


def test_the_answer_to_a_wrong_key_is_delayed_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr(auth, "asyncio", SimpleNamespace(sleep=sleep))
    client = TestClient(Application(FakeRecognizer(), ServerOptions(api_keys=("real",))).asgi)
    assert client.get("/v1/models", headers=KEY).status_code != 401
    assert client.get("/v1/models").status_code == 401
    assert delays == []
    assert client.get("/v1/models", headers={"X-API-Key": "guess"}).status_code == 401
    assert delays == [auth.WRONG_KEY_DELAY_S]
