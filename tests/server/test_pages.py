"""What the server sends to browsers."""

from __future__ import annotations

import json
import urllib.request

import pytest

from streaming_asr.server.pages import CLIENT, WEB
from tests.support.live_server import LiveServer

FILES = [f"/web/{path.name}" for path in WEB.iterdir()] + [f"/client/{path.name}" for path in CLIENT.iterdir()]
TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}


def _headers(url: str) -> dict[str, str]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.parametrize("path", ["/", "/captions", *sorted(FILES)])
def test_pages_may_load_nothing_from_elsewhere(server: LiveServer, path: str) -> None:
    headers = _headers(server.http_url + path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    # No page may meet the module of another version.
    assert headers["cache-control"] == "no-cache"
    kind = TYPES[path.rpartition(".")[2]] if "." in path else "text/html"
    assert headers["content-type"] == f"{kind}; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["/web", "/web/", "/web/nothing.js", "/client/../streaming_asr/server/app.py", "/client/%2e%2e/mic.py"]
)
def test_nothing_else_is_sent(server: LiveServer, path: str) -> None:
    assert server.get(path)[0] == 404


def test_a_page_learns_what_the_server_is(server: LiveServer) -> None:
    status, text = server.get("/v1/about")
    about = json.loads(text)
    assert status == 200
    assert (about["status"], about["key"], about["languages"]) == ("ready", "unneeded", ["en"])


def test_a_page_learns_whether_its_key_is_right_and_without_it_no_more(server: LiveServer) -> None:
    with LiveServer("--api-key", "open-sesame") as live:

        def about(key: str) -> dict[str, object]:
            request = urllib.request.Request(f"{live.http_url}/v1/about", headers={"Authorization": f"Bearer {key}"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                about: dict[str, object] = json.load(answer)
            return about

        assert about("wrong")["key"] == "wanted"
        assert "model" not in about("wrong")
        assert about("open-sesame")["key"] == "fits"
        # The page itself is for everybody: it has to ask for the key.
        assert live.get("/")[0] == 200
