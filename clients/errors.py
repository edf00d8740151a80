"""Exceptions of a stream. Every message is for the user."""

from __future__ import annotations

TRANSIENT_CODES = frozenset(
    {
        "busy",
        "not_ready",
        "restarting",
        "session_too_long",
        "idle",
        "slow_reader",
        "recognizer_failed",
        "internal",
        "too_many_guesses",
    }
)
"""The server's error codes after which a new connection can continue; docs/protocol.md has the reasons."""
PERMANENT_CLOSES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes for a mistake of the client, which a new connection would repeat."""


class StreamError(Exception):
    """The stream can't continue."""

    transient = False
    """Whether a new connection may help."""


class ServerUnreachable(StreamError):
    """No connection could be made.

    Args:
        transient: False if trying again can't help, as with a certificate that is not trusted.
    """

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class ServerRefused(StreamError):
    """The server ended the stream, or refused it, and gave the reason.

    Args:
        code: of the protocol, such as `unauthorized`, `bad_option` or `busy`.
        message: the server's.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.transient = code in TRANSIENT_CODES


class ConnectionBroken(StreamError):
    """The connection ended before the stream was done, without a reason from the server.

    Args:
        close_code: of the WebSocket; 1006 if there was none.
    """

    def __init__(self, close_code: int, reason: str = "") -> None:
        detail = f": {reason}" if reason else ""
        super().__init__(f"The connection to the server broke (close code {close_code}{detail}).")
        self.close_code = close_code
        self.transient = close_code not in PERMANENT_CLOSES


class StreamEnded(StreamError):
    """Something was sent after `stop`, or after the end of the stream."""
