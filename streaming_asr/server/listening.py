"""Sockets that listen."""

from __future__ import annotations

import socket

METRICS_FLAGS = "--metrics-port or --metrics-host"


class AddressTaken(Exception):
    """The address can't be bound. The message is for the user."""


def bind(host: str, port: int, flags: str) -> socket.socket:
    """A socket that listens.

    Args:
        flags: what chooses another address.

    Raises:
        AddressTaken: it can't listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        message = f"can't listen on {host} port {port}: {error.strerror}"
        raise AddressTaken(f"{message}; choose another with {flags}") from None
    bound.listen(1024)
    return bound


def address(bound: socket.socket, *, tls: bool) -> str:
    """Where clients find a server that listens on this socket."""
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    http, ws = ("https", "wss") if tls else ("http", "ws")
    return f"{http}://{shown}:{port} (streams: {ws}://{shown}:{port}/v1/stream)"
