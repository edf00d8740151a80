"""Who may come in: API keys from wherever a client can put one, and origins of browser pages."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

_KEY_PREFIXES = ("key.", "openai-insecure-api-key.")
"""Subprotocols that carry a key in themselves, for browsers, which can set no header."""


def offered_key(headers: Mapping[str, str], query: Mapping[str, str], subprotocols: Iterable[str] = ()) -> str | None:
    """The key a client offers: `Authorization` (Bearer or Token), `X-API-Key`, query `token` or `api_key`, or a
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


def chosen_subprotocol(subprotocols: Iterable[str]) -> str | None:
    """What the server answers: the first that is not a key. Browsers insist on one of those they offered."""
    return next((protocol for protocol in subprotocols if not protocol.startswith(_KEY_PREFIXES)), None)


def key_fits(offered: str | None, keys: Iterable[str]) -> bool:
    """Whether a key opens the door. Takes the same time wherever the keys differ; without keys all are let in."""
    known = list(keys)
    if not known:
        return True
    given = (offered or "").encode()
    matches = [hmac.compare_digest(given, key.encode()) for key in known]
    return any(matches)


def origin_fits(origin: str | None, host: str | None, allowed: Iterable[str]) -> bool:
    """Whether a page of this origin may connect: the server's own page, an allowed one, or no browser at all."""
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return host is not None and urlsplit(origin).netloc.lower() == host.lower()
