"""URLs as people write them, and addresses that are not of the open Internet."""

from __future__ import annotations

import functools
import http.server
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streaming_asr.server.openai_http import fetch as fetch_module
from streaming_asr.server.openai_http.fetch import FetchRefused, Line, fetch, is_public
from streaming_asr.server.openai_http.urls import BadUrl, redirected, target_of


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://a.example/a.wav", "a.example", 80, "/a.wav"),
        ("https://a.example:8443", "a.example", 8443, "/"),
        ("http://a.example/a b.wav?c=d e", "a.example", 80, "/a%20b.wav?c=d%20e"),
        ("http://a.example/\u5f55\u97f3.wav", "a.example", 80, "/%E5%BD%95%E9%9F%B3.wav"),
        ("http://a.example/?q=\u00e4&r=%C3%A4+1", "a.example", 80, "/?q=%C3%A4&r=%C3%A4+1"),
        ("https://b\u00fccher.example/a.wav", "xn--bcher-kva.example", 443, "/a.wav"),
        ("http://[2606:4700::1]/a.wav", "2606:4700::1", 80, "/a.wav"),
        ("  http://a.example/a.wav\n", "a.example", 80, "/a.wav"),
        ("http://user:secret@a.example/a.wav", "a.example", 80, "/a.wav"),
    ],
)
def test_a_url_is_encoded_as_a_browser_does(url: str, host: str, port: int, path: str) -> None:
    target = target_of(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert "secret" not in target.authority


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1/a.wav", "http://[", "http://a.example:port/", "http://a.example:99999/", "http:///a.wav"),
        *("ftp://a.example/", "a.wav", "", "http://a b/", "http://\ud800/", "http://a.example/\ud800"),
        *("http://" + "\u00fc" * 100 + "/", "http://a..\u00fc/", "file:///etc/passwd"),
    ],
)
def test_what_is_not_a_url_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(BadUrl):
        target_of(url)
    with pytest.raises(FetchRefused):
        fetch(url, io.BytesIO(), allow_private=True, max_bytes=1, timeout_s=1)


def test_a_redirect_beyond_ascii_is_followed() -> None:
    base = target_of("http://a.example:81/x/y")
    location = "/\u5f55\u97f3 1.wav".encode().decode("latin-1")
    assert target_of(redirected(base, location)).path == "/%E5%BD%95%E9%9F%B3%201.wav"
    assert target_of(redirected(base, "z")).url == "http://a.example:81/x/z"
    with pytest.raises(BadUrl):
        redirected(base, "http://[")


@contextmanager
def _folder(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


@pytest.mark.parametrize("name", ["a b.wav", "\u5f55\u97f3.wav", "plain.wav"])
def test_a_file_is_fetched_by_its_name_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"audio")
    into = io.BytesIO()
    with _folder(tmp_path) as url:
        fetch(f"{url}/{name}", into, allow_private=True, max_bytes=10, timeout_s=10)
    assert into.getvalue() == b"audio"


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "192.0.0.8", "192.88.99.1", "100.64.0.1", "224.0.0.1", "0.0.0.0"),
        *("::", "::1", "::10.0.0.1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1"),
        *("64:ff9b:1::10.0.0.1", "2002:a00:1::1", "2001::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1"),
        *("fc00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    ],
)
def test_an_address_that_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look-ups that do not end."""
    over = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        over.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    over.set()


def _fetch(url: str, timeout_s: float = 0.2, line: Line | None = None) -> None:
    fetch(url, io.BytesIO(), allow_private=True, max_bytes=10, timeout_s=timeout_s, line=line)


@pytest.mark.usefixtures("stuck")
def test_a_look_up_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(FetchRefused, match="takes too long"):
        _fetch("http://slow.example/")


@pytest.mark.usefixtures("stuck")
def test_a_look_up_can_be_cut_off() -> None:
    line = Line()
    threading.Timer(0.1, line.cut).start()
    began = time.monotonic()
    with pytest.raises(FetchRefused, match="cut off"):
        _fetch("http://slow.example/", 60, line)
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("stuck")
def test_look_ups_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "_look_ups", threading.BoundedSemaphore(2))
    for _ in range(2):
        with pytest.raises(FetchRefused, match="takes too long"):
            _fetch("http://slow.example/", 0.01)
    with pytest.raises(FetchRefused, match="later"):
        _fetch("http://slow.example/")


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(FetchRefused, match="can't be requested"):
        _fetch("http://nowhere.invalid/", 20)
