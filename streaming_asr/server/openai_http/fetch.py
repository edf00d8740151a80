"""Audio from a URL that a client names: what may be asked for, from where, and how much of it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from typing import IO
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

MAX_REDIRECTS = 3
_CHUNK = 64 * 1024
_AGENT = "streaming-asr"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks without IPv4 write them, RFC 6052 section 2.1."""


class FetchRefused(Exception):
    """The URL is not fetched, or can't be. The message is for the client."""


def fetch(url: str, into: IO[bytes], *, allow_private: bool, max_bytes: int, timeout_s: float) -> None:
    """Write what a URL holds to a file. Blocks.

    A name is looked up once and the connection made to the address that was checked, also after a redirect, so that a
    name can't point elsewhere in between.

    Args:
        url: http, https or data.
        allow_private: whether addresses that are not public may be asked.
        max_bytes, timeout_s: of the whole.

    Raises:
        FetchRefused: it is not allowed, too large, too slow, or not there.
    """
    deadline = time.monotonic() + timeout_s
    if url.startswith("data:"):
        _decode_data(url, into, max_bytes)
        return
    for _ in range(MAX_REDIRECTS + 1):
        try:
            moved = _get(url, into, allow_private, max_bytes, deadline)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise FetchRefused(f"{_host(url)} can't be asked: {error}") from None
        if moved is None:
            return
        url = urljoin(url, moved)
    raise FetchRefused(f"more than {MAX_REDIRECTS} redirects")


def _decode_data(url: str, into: IO[bytes], max_bytes: int) -> None:
    head, comma, body = url[5:].partition(",")
    if not comma:
        raise FetchRefused("a data URL must be data:TYPE;base64,DATA")
    try:
        data = base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise FetchRefused("the data URL holds no valid base64") from None
    if len(data) > max_bytes:
        raise FetchRefused(f"the data URL holds {len(data)} bytes; at most {max_bytes} are allowed")
    into.write(data)


def _get(url: str, into: IO[bytes], allow_private: bool, max_bytes: int, deadline: float) -> str | None:
    """One request; returns where it is redirected to, or None once all is written."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FetchRefused("only http, https and data URLs are fetched")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise FetchRefused("the URL's port is no number") from None
    connection = http.client.HTTPConnection(parts.hostname, port)
    connection.sock = connected = _connect(parts.hostname, port, allow_private, deadline)
    # Each single wait has a limit; this one holds for a host that sends a byte now and then, too.
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), _hang_up, (connected,))
    watch.start()
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Host": parts.netloc.rpartition("@")[2], "User-Agent": _AGENT})
        answer = connection.getresponse()
        if answer.status in (301, 302, 303, 307, 308) and (moved := answer.getheader("Location")):
            return moved
        if answer.status != 200:
            raise FetchRefused(f"{parts.hostname} answered {answer.status}")
        written = 0
        while chunk := answer.read(_CHUNK):
            written += len(chunk)
            if written > max_bytes:
                raise FetchRefused(f"{parts.hostname} sends more than the {max_bytes} bytes allowed")
            if time.monotonic() > deadline:
                raise FetchRefused(f"{parts.hostname} takes too long")
            into.write(chunk)
        return None
    finally:
        watch.cancel()
        connection.close()


def _hang_up(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _connect(host: str, port: int, allow_private: bool, deadline: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        if not allow_private and not is_public(str(address[0])):
            raise FetchRefused(f"{host} is no public address; the server's --allow-private-urls lets it be asked")
        connected = socket.socket(family, kind, protocol)
        connected.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            connected.connect(address)
        except OSError:
            connected.close()
            continue
        return connected
    raise FetchRefused(f"{host} can't be reached")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet, also by what it stands for in networks that translate."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the URL"
