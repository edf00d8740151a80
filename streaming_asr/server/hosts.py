"""The names by which a server may be addressed, so that no page can reach it by a name of its own.

In DNS rebinding a page's own name is made to point at a server that the page's visitor can reach. For the browser this
server is then the page's own origin; the `Host` header still has the page's name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """Whether a server that listens on this address can be reached from its own machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return _is_localhost(address.lower())


def host_name(host: str) -> str | None:
    """The name or the address in a `Host` header, in lower case; None if there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".") or None
    except ValueError:
        return None


class HostNames:
    """Which hosts requests may name: addresses, names without a dot, this machine's name, and those that are given.

    An address is allowed because the origin of a page that names it is this server; a name without a dot, such as
    `localhost` or that of a service in a cluster, because nobody can register one.

    Args:
        bound: what the server listens on.
        allowed: further names; `*` is any.
        machine: name of this machine.
    """

    def __init__(self, bound: str, allowed: Iterable[str], machine: str | None = None) -> None:
        short = (machine or socket.gethostname()).lower()
        self._names = {name.lower().rstrip(".") for name in (bound, short, f"{short}.local", *allowed)}

    def allow(self, host: str | None) -> bool:
        """Whether a request with this `Host` header is answered; one without it does not come from a browser."""
        if host is None or "*" in self._names:
            return True
        name = host_name(host)
        return name is not None and ("." not in name or name in self._names or _is_localhost(name) or _is_address(name))


def _is_localhost(name: str) -> bool:
    """RFC 6761 section 6.3: names that always lead to the machine itself."""
    return name == "localhost" or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
