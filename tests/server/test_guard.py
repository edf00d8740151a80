"""Which routes need the API key, and which hosts and origins they accept: all routes but those listed here."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server import auth
from streaming_asr.server.app import Application
from streaming_asr.server.key_guesses import AT_ADDRESS
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer

HEALTH = {"/healthz", "/readyz"}
OPEN = {"/", "/captions", "/web", "/client", "/v1/about", *HEALTH}
"""The page with what it loads, and what load balancers ask."""
KEY = {"Authorization": "Bearer real"}
OPTIONS = ServerOptions(api_keys=("real",), session=SessionOptions(vad="webrtc"))


def _routes() -> list[BaseRoute]:
    return Application(FakeRecognizer(), OPTIONS).asgi.routes


def _paths(kind: type[Route] | type[WebSocketRoute] | type[Mount]) -> list[str]:
    return [route.path for route in _routes() if isinstance(route, kind)]


@pytest.fixture
def client() -> Iterator[TestClient]:
    application = Application(FakeRecognizer(), OPTIONS)
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)
        yield client
        client.portal.call(application.service.close)


def test_each_route_is_one_of_the_kinds_that_are_tested_here() -> None:
    assert all(isinstance(route, Route | WebSocketRoute | Mount) for route in _routes())
    assert set(_paths(Mount)) == {"/web", "/client"}
    assert set(_paths(Route)) | set(_paths(Mount)) >= OPEN
    assert set(_paths(WebSocketRoute)) == {*PROTOCOLS, "/{path:path}"}


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
    client = TestClient(Application(FakeRecognizer(), ServerOptions()).asgi, "http://localhost")
    for path in _paths(Route):
        assert client.get(path).status_code != 401


@pytest.fixture(scope="module")
def anonymous() -> TestClient:
    """A server without keys, under a name that it does not know."""
    return TestClient(Application(FakeRecognizer(), ServerOptions()).asgi, "http://rebound.example")


@pytest.mark.parametrize("route", [route for route in _routes() if isinstance(route, Route)], ids=lambda it: it.path)
def test_without_keys_a_host_that_is_not_known_is_refused(anonymous: TestClient, route: Route) -> None:
    for method in route.methods or ():
        answer = anonymous.request(method, route.path)
        assert (answer.status_code == 403) is (route.path not in HEALTH)
        if answer.status_code == 403 and method != "HEAD":
            assert "--allowed-host rebound.example" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", _paths(WebSocketRoute))
def test_without_keys_a_handshake_with_a_host_that_is_not_known_is_refused(anonymous: TestClient, path: str) -> None:
    origin = {"Origin": "http://rebound.example", "Host": "rebound.example"}
    with pytest.raises(WebSocketDenialResponse) as refused, anonymous.websocket_connect(path, headers=origin):
        pass
    assert refused.value.status_code == 403


@pytest.mark.parametrize(
    ("options", "host", "allowed"),
    [
        (ServerOptions(), "127.0.0.1:8000", True),
        (ServerOptions(), "[::1]:8000", True),
        (ServerOptions(), "192.168.1.7", True),
        (ServerOptions(), "LOCALHOST:9", True),
        (ServerOptions(), "app.localhost", True),
        (ServerOptions(), "gpu-box:8000", True),
        (ServerOptions(), f"{socket.gethostname()}.local:8000", True),
        (ServerOptions(), "localhost.example", False),
        (ServerOptions(), "127.0.0.1.example", False),
        (ServerOptions(), "[::1", False),
        (ServerOptions(), "", False),
        (ServerOptions(allowed_hosts=("asr.example",)), "asr.example.:8000", True),
        (ServerOptions(allowed_hosts=("asr.example",)), "b.asr.example", False),
        (ServerOptions(allowed_hosts=("*",)), "any.example", True),
        (ServerOptions(api_keys=("real",)), "any.example", True),
        (ServerOptions(api_keys=("real",), allowed_hosts=("asr.example",)), "any.example", False),
    ],
)
def test_a_server_has_the_names_that_it_knows(options: ServerOptions, host: str, allowed: bool) -> None:
    client = TestClient(Application(FakeRecognizer(), options).asgi, headers={**KEY, "Host": host})
    assert (client.get("/v1/models").status_code != 403) is allowed


@pytest.mark.parametrize(
    "route",
    [route for route in _routes() if isinstance(route, Route) and route.path not in OPEN],
    ids=lambda it: it.path,
)
def test_pages_of_other_origins_are_refused_over_http_too(route: Route) -> None:
    allowing = ServerOptions(allowed_origins=("https://app.example",))
    client = TestClient(Application(FakeRecognizer(), allowing).asgi, "http://localhost:8000")
    for origin, allowed in (("http://evil.example", False), ("null", False), ("http://localhost:8000", True)):
        for method in route.methods or ():
            assert (client.request(method, route.path, headers={"Origin": origin}).status_code != 403) is allowed
    for method in route.methods or ():
        assert client.request(method, route.path, headers={"Origin": "https://app.example"}).status_code != 403


def test_a_client_that_guesses_keys_is_not_answered_any_more_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr(auth, "asyncio", SimpleNamespace(sleep=sleep))
    long = "0123456789abcdef"
    asgi = Application(FakeRecognizer(), ServerOptions(api_keys=("real", "other", long))).asgi
    guesser, beside = (TestClient(asgi, client=("10.0.0.1", port)) for port in (1, 2))
    elsewhere = TestClient(asgi, client=("10.0.0.2", 1))
    assert beside.get("/v1/models", headers=KEY).status_code == 503
    for number in range(AT_ADDRESS):
        paths = ("/v1/models", "/metrics", "/v1/about")
        answer = guesser.get(paths[number % 3], headers={"X-API-Key": f"guess {number}"})
        assert answer.status_code == 401 or answer.json()["key"] == "wanted"
    assert delays == []
    refused = guesser.get("/v1/models", headers={"X-API-Key": "other"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_guesses")
    assert delays == [auth.GUESS_DELAY_S]
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        guesser.websocket_connect("/v1/stream", headers={"X-API-Key": "other"}),
    ):
        pass
    assert denied.value.status_code == 429
    assert guesser.get("/v1/about", headers={"X-API-Key": "other"}).json()["key"] == "wanted"
    assert guesser.get("/v1/models").status_code == 401
    # A key that can't be guessed is always looked at, one that was right at an address stays so there, and another
    # address has guesses of its own.
    assert beside.get("/v1/models", headers={"X-API-Key": long}).status_code == 503
    assert beside.get("/v1/models", headers={"X-API-Key": long[:-1]}).status_code == 429
    assert beside.get("/v1/models", headers=KEY).status_code == 503
    assert elsewhere.get("/v1/models", headers={"X-API-Key": "other"}).status_code == 503
