"""Audio from a URL that a client names: which URLs and hosts are allowed, and how much is read."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from typing import IO

from streaming_asr.protocols.base64_audio import decode_data_url
from streaming_asr.server.openai_http.urls import BadUrl, Target, redirected, target_of

MAX_REDIRECTS = 3
_CHUNK = 64 * 1024
_AGENT = "streaming-asr"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks without IPv4 write them, RFC 6052 section 2.1."""
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "::/96",  # IPv4-compatible, RFC 4291
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
        "64:ff9b:1::/48",  # translation within a network, RFC 8215
        "100::/64",  # discarded, RFC 6666
        "2001::/23",  # IETF protocol assignments, Teredo among them, RFC 2928
        "2001:db8::/32",  # documentation, RFC 3849
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segments of routes, RFC 9602
        "fec0::/10",  # site-local, RFC 3879
    )
)
"""Networks that some of the Python versions take for global."""


class FetchRefused(Exception):
    """The URL is not fetched, or can't be. The message is for the client."""


class BadAudio(FetchRefused):
    """The audio in a data URL can't be decoded."""


class Line:
    """The connection of a fetch, which can be cut from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def lead_to(self, connected: socket.socket) -> None:
        """Have the line lead over this socket from now on.

        Raises:
            FetchRefused: it has been cut.
        """
        with self._lock:
            self._socket = connected
            if self._cut:
                raise FetchRefused("the fetch was cut off")

    def cut(self) -> None:
        """End what waits for the socket, and all later use of it."""
        with self._lock:
            self._cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # Not the method of TLS sockets, which changes what the other thread uses.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def fetch(
    url: str, into: IO[bytes], *, allow_private: bool, max_bytes: int, timeout_s: float, line: Line | None = None
) -> None:
    """Write the content of a URL to a file. Blocks.

    A name is looked up once and the connection made to the address that was checked, also after a redirect, so that a
    name can't point elsewhere in between.

    Args:
        url: http, https or data.
        allow_private: whether addresses that are not public are allowed.
        max_bytes, timeout_s: of the whole.
        line: to cut it off by.

    Raises:
        FetchRefused: it is not allowed, too large, too slow, or not there.
    """
    deadline = time.monotonic() + timeout_s
    url = url.strip()
    if is_data_url(url):
        _decode_data(url, into, max_bytes)
        return
    try:
        target = target_of(url)
        line = line or Line()
        for _ in range(MAX_REDIRECTS + 1):
            try:
                moved = _get(target, into, allow_private, max_bytes, deadline, line)
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise FetchRefused(f"{target.host} can't be requested: {error}") from None
            if moved is None:
                return
            target = target_of(redirected(target, moved))
    except BadUrl as error:
        raise FetchRefused(str(error)) from None
    raise FetchRefused(f"more than {MAX_REDIRECTS} redirects")


def is_data_url(url: str) -> bool:
    """Whether a URL contains the data, so that nothing is requested."""
    return url.lstrip()[:5].lower() == "data:"


def _decode_data(url: str, into: IO[bytes], max_bytes: int) -> None:
    try:
        data = decode_data_url(url)
    except ValueError as error:
        raise BadAudio(str(error)) from None
    if len(data) > max_bytes:
        raise FetchRefused(f"the data URL has {len(data)} bytes; at most {max_bytes} are allowed")
    into.write(data)


def _get(
    target: Target, into: IO[bytes], allow_private: bool, max_bytes: int, deadline: float, line: Line
) -> str | None:
    """Send one request; returns where it is redirected to, or None once all is written."""
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = connected = _connect(target.host, target.port, allow_private, deadline)
    # Each single wait has a limit; this one holds for a host that sends a byte now and then, too.
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), line.cut)
    watch.daemon = True
    watch.start()
    try:
        line.lead_to(connected)
        if target.scheme == "https":
            context = ssl.create_default_context()
            # It takes the descriptor over: what is done to the socket before has no effect from here on.
            connection.sock = wrapped = context.wrap_socket(
                connected, server_hostname=target.host, do_handshake_on_connect=False
            )
            line.lead_to(wrapped)
            wrapped.do_handshake()
        connection.request("GET", target.path, headers={"Host": target.authority, "User-Agent": _AGENT})
        answer = connection.getresponse()
        if answer.status in (301, 302, 303, 307, 308) and (moved := answer.getheader("Location")):
            return moved
        if answer.status != 200:
            raise FetchRefused(f"{target.host} answered {answer.status}")
        written = 0
        while chunk := answer.read(_CHUNK):
            written += len(chunk)
            if written > max_bytes:
                raise FetchRefused(f"{target.host} sends more than the {max_bytes} bytes allowed")
            if time.monotonic() > deadline:
                raise FetchRefused(f"{target.host} takes too long")
            into.write(chunk)
        if time.monotonic() > deadline:
            raise FetchRefused(f"{target.host} takes too long")
        return None
    finally:
        watch.cancel()
        connection.close()


def _connect(host: str, port: int, allow_private: bool, deadline: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        if not allow_private and not is_public(str(address[0])):
            raise FetchRefused(f"{host} has no public address; the server's --allow-private-urls allows it")
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
    """Whether an IP address belongs to the public Internet; if it stands for an IPv4 address, whether that one does."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast
