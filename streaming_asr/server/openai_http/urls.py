"""URLs as people write them -> URLs that can be requested."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

_SAFE = "/%:@!$&'()*+,;=~?[]"
"""What stays as it is in a path and a query; an existing percent-encoding does, too."""
_PORTS = {"http": 80, "https": 443}


class BadUrl(ValueError):
    """It is not a URL that can be requested. The message is for the client."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to request, and what."""

    scheme: str
    host: str
    """ASCII; in IDNA form where it was not."""
    port: int
    authority: str
    """For the `Host` header."""
    path: str
    """With the query; percent-encoded."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def target_of(url: str) -> Target:
    """The target of an http or https URL.

    Spaces and characters beyond ASCII are percent-encoded as UTF-8 in the path and the query, and written as IDNA in
    the host.

    Raises:
        BadUrl: it has another scheme, no host, or can't be read.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadUrl(f"the URL can't be read: {error}") from None
    if parts.scheme not in _PORTS or not host:
        raise BadUrl("only http, https and data URLs are fetched")
    host = _ascii_host(host)
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port is None else f"{shown}:{port}"
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], authority, _path(parts))


def redirected(base: Target, location: str) -> str:
    """The URL of a `Location` header, whose bytes `http.client` reads as Latin-1.

    Raises:
        BadUrl: it can't be read.
    """
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    try:
        return urljoin(base.url, location)
    except ValueError as error:
        raise BadUrl(f"the URL it redirects to can't be read: {error}") from None


def _ascii_host(host: str) -> str:
    if host.isascii():
        if any(character <= " " or character in "/\\?#@" for character in host):
            raise BadUrl(f"the URL's host can't be read: {host!r}")
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise BadUrl(f"the URL's host can't be read: {error}") from None


def _path(parts: SplitResult) -> str:
    try:
        path = quote(parts.path or "/", safe=_SAFE)
        query = quote(parts.query, safe=_SAFE)
    except UnicodeEncodeError as error:
        raise BadUrl(f"the URL can't be read: {error}") from None
    return f"{path}?{query}" if query else path
