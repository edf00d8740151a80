"""Audio from a URL that a client names: which URLs and hosts are allowed, and how much is read."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import IO, Any, TypeVar

from streaming_asr.server.openai_http.bodies import GRACE_S, MIN_BYTES_PER_S
from streaming_asr.server.openai_http.urls import BadUrl, Target, redirected, target_of

MAX_REDIRECTS = 3
MAX_LOOK_UPS = 16
"""Names looked up at once, with those that nobody waits for any more."""
_CHUNK = 64 * 1024
MAX_SILENCE_S = 10.0
"""Of a host, while it sends."""
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


_look_ups = threading.BoundedSemaphore(MAX_LOOK_UPS)
_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""As `socket.getaddrinfo` returns it."""
T = TypeVar("T")


class FetchRefused(Exception):
    """The URL is not fetched, or can't be. The message is for the client."""


class Line:
    """The connection of a fetch, which can be cut from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._look_up: Future[Any] | None = None
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

    def wait_for(self, look_up: Future[T], until: float) -> T:
        """The result of looking up a name.

        Args:
            until: of `time.monotonic`.

        Raises:
            FetchRefused: it has been cut, or it takes too long.
        """
        with self._lock:
            self._look_up = look_up
            if self._cut:
                look_up.cancel()
        try:
            return look_up.result(max(0.0, until - time.monotonic()))
        except futures.TimeoutError:
            raise FetchRefused("looking up its name takes too long") from None
        except futures.CancelledError:
            raise FetchRefused("the fetch was cut off") from None

    def cut(self) -> None:
        """End what waits for a name or the socket, and all later use of it."""
        with self._lock:
            self._cut = True
            if self._look_up is not None:
                self._look_up.cancel()
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    # Not the method of TLS sockets, which changes what the other thread uses.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def fetch(
    url: str,
    into: IO[bytes],
    *,
    allow_private: bool,
    max_bytes: int,
    timeout_s: float,
    line: Line | None = None,
    add: Callable[[int], None] = lambda size: None,
) -> None:
    """Write the content of a URL to a file. Blocks.

    A name is looked up once and the connection made to the address that was checked, also after a redirect, so that a
    name can't point elsewhere in between.

    Args:
        url: http or https.
        allow_private: whether addresses that are not public are allowed.
        max_bytes, timeout_s: of the whole.
        line: to cut it off by.
        add: is called with the size of each piece before that is written.

    Raises:
        FetchRefused: it is not allowed, too large, too slow, or not there.
    """
    deadline = time.monotonic() + timeout_s
    url = url.strip()
    try:
        target = target_of(url)
        line = line or Line()
        for _ in range(MAX_REDIRECTS + 1):
            try:
                moved = _get(target, into, allow_private, max_bytes, deadline, line, add)
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


def _get(
    target: Target,
    into: IO[bytes],
    allow_private: bool,
    max_bytes: int,
    deadline: float,
    line: Line,
    add: Callable[[int], None],
) -> str | None:
    """Send one request; returns where it is redirected to, or None once all is written."""
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = connected = _connect(target.host, target.port, allow_private, deadline, line)
    wire = connected
    # Each single wait has a limit; this one holds for a host that sends a byte now and then, too.
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), line.cut)
    watch.daemon = True
    watch.start()
    try:
        if target.scheme == "https":
            context = ssl.create_default_context()
            # It takes the descriptor over: what is done to the socket before has no effect from here on.
            connection.sock = wire = wrapped = context.wrap_socket(
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
        written, began = 0, time.monotonic()
        wire.settimeout(min(MAX_SILENCE_S, max(0.1, deadline - began)))
        while chunk := answer.read1(_CHUNK):
            written += len(chunk)
            if time.monotonic() - began > GRACE_S + written / MIN_BYTES_PER_S:
                raise FetchRefused(f"{target.host} sends fewer than {MIN_BYTES_PER_S} bytes a second")
            if written > max_bytes:
                raise FetchRefused(f"{target.host} sends more than the {max_bytes} bytes allowed")
            if time.monotonic() > deadline:
                raise FetchRefused(f"{target.host} takes too long")
            add(len(chunk))
            into.write(chunk)
        if time.monotonic() > deadline:
            raise FetchRefused(f"{target.host} takes too long")
        return None
    finally:
        watch.cancel()
        connection.close()


def _connect(host: str, port: int, allow_private: bool, deadline: float, line: Line) -> socket.socket:
    for family, kind, protocol, _, address in line.wait_for(_look_up(host, port), deadline):
        if not allow_private and not is_public(str(address[0])):
            raise FetchRefused(f"{host} has no public address; the server's --allow-private-urls allows it")
        connected = socket.socket(family, kind, protocol)
        connected.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            line.lead_to(connected)
            connected.connect(address)
        except OSError:
            connected.close()
            continue
        except FetchRefused:
            connected.close()
            raise
        return connected
    raise FetchRefused(f"{host} can't be reached")


def _look_up(host: str, port: int) -> Future[Sequence[_Found]]:
    """Look up a host's addresses. The system's look-up has no time limit and can't be ended, so that a thread of its
    own does it, which is left behind when nobody waits for it any more.

    Raises:
        FetchRefused: too many wait for the system already.
    """
    places = _look_ups
    if not places.acquire(blocking=False):
        raise FetchRefused(f"{host} can't be looked up now; try again later")
    found: Future[Sequence[_Found]] = Future()

    def look_up() -> None:
        with contextlib.suppress(futures.InvalidStateError):
            try:
                found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.set_exception(error)
            finally:
                places.release()

    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    return found


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
