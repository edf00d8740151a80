"""Every failure that a client can be sent, over WebSockets or HTTP, in one table.

`clients/errors.py`, `clients/browser/live-stream.js` and the tables of the docs repeat parts of it, because they must
stand alone; tests compare them. Dialects may use codes of their own, as Deepgram's do.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class CloseCode(enum.IntEnum):
    """WebSocket close codes, RFC 6455 section 7.4.1 and the registry it founds."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_LATER = 1013


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    meaning: str
    transient: bool = False
    close: CloseCode | None = None
    status: int = 400


@enum.unique
class FailureKind(enum.Enum):
    """A kind of failure; its name in lower case is the code that clients are sent.

    A kind is transient if a client that keeps its audio until it has the final can connect again and go on where finals
    end, without anything being changed: the server or the network may have recovered, or a new session has a new limit.
    """

    # The server can't serve a session now, or can't continue one.
    BUSY = _Entry(
        meaning="all sessions are taken, or the recognizer is behind",
        transient=True,
        close=CloseCode.TRY_LATER,
        status=503,
    )
    NOT_READY = _Entry(
        meaning="the recognizer is loading or recovering", transient=True, close=CloseCode.TRY_LATER, status=503
    )
    RESTARTING = _Entry(meaning="the server is shutting down", transient=True, close=CloseCode.RESTART, status=503)
    RECOGNIZER_FAILED = _Entry(
        meaning="the recognizer died and can't be restarted", transient=True, close=CloseCode.INTERNAL, status=503
    )
    INTERNAL = _Entry(
        meaning="a fault of the server; its log says more", transient=True, close=CloseCode.INTERNAL, status=500
    )
    DECODE_FAILED = _Entry(meaning="the recognizer failed on this item", transient=True, status=500)

    # The session reached a limit.
    IDLE = _Entry(
        meaning="neither audio nor a message came for too long", transient=True, close=CloseCode.POLICY, status=408
    )
    SLOW_READER = _Entry(
        meaning="the client does not read its events, or the network does not carry them",
        transient=True,
        close=CloseCode.POLICY,
        status=408,
    )
    SESSION_TOO_LONG = _Entry(
        meaning="the stream reached the longest allowed", transient=True, close=CloseCode.POLICY, status=413
    )
    TOO_MANY_CHANGES = _Entry(
        meaning="the client changes options, or clears audio, too often", close=CloseCode.POLICY, status=429
    )
    SESSION_EXPIRED = _Entry(
        meaning="the session reached the lifetime of its protocol", transient=True, close=CloseCode.GOING_AWAY
    )
    TOO_MANY_CLIENT_SECRETS = _Entry(meaning="the most client secrets allowed are alive", transient=True, status=429)

    # The client may not do this.
    UNAUTHORIZED = _Entry(meaning="the API key of a WebSocket is missing or wrong", close=CloseCode.POLICY, status=401)
    INVALID_API_KEY = _Entry(meaning="the API key of an HTTP request is missing or wrong", status=401)
    TOO_MANY_GUESSES = _Entry(
        meaning="too many wrong API keys came from the client's address", transient=True, status=429
    )
    FORBIDDEN_HOST = _Entry(meaning="a name of the server that it does not know", status=403)
    FORBIDDEN_ORIGIN = _Entry(meaning="a browser page of an origin that is not allowed", status=403)

    # The client asked for something that is not possible.
    BAD_OPTION = _Entry(
        meaning="an option does not exist, or its value is not possible; ends a session only as it opens",
        close=CloseCode.POLICY,
    )
    MODEL_NOT_FOUND = _Entry(
        meaning="no model of this name; ends a session only as it opens", close=CloseCode.POLICY, status=404
    )
    BAD_AUDIO = _Entry(
        meaning="a file where audio must be raw, one that can't be decoded, or a WAV header of another format",
        close=CloseCode.POLICY,
    )
    UNSUPPORTED = _Entry(meaning="the served model can't do this")
    MESSAGE_TOO_BIG = _Entry(meaning="a message over the limit", close=CloseCode.TOO_BIG, status=413)
    TOO_LARGE = _Entry(meaning="a recording or chat over the limit", status=413)
    REQUEST_TOO_LARGE = _Entry(meaning="a request for a client secret over the limit", status=413)
    LATE_START = _Entry(meaning="`start` after audio")
    STOPPED = _Entry(meaning="anything after `stop`")

    # A message can't be read.
    BAD_JSON = _Entry(meaning="the native protocol's `invalid_json`")
    BAD_MESSAGE = _Entry(meaning="the native protocol's `invalid_message`, `unknown_type` and `invalid_value`")
    INVALID_JSON = _Entry(meaning="the message is not JSON")
    INVALID_MESSAGE = _Entry(meaning="the message is binary, or not an object")
    UNKNOWN_TYPE = _Entry(meaning="there is no such message type")
    INVALID_VALUE = _Entry(meaning="a field is wrong; also OpenAI's `bad_option`")
    INVALID_AUDIO = _Entry(meaning="the audio in the message is not base64")

    def __init__(self, entry: _Entry) -> None:
        self.code = self.name.lower()
        """As clients are sent it."""
        self.meaning = entry.meaning
        self.transient = entry.transient
        """Whether a client should connect, or ask, again."""
        self.close = entry.close
        """Close code of a WebSocket that it ends; None if the session always goes on."""
        self.status = entry.status
        """Of an HTTP request, or a handshake, that fails by it."""

    @property
    def server_error(self) -> bool:
        """Whether it is not the client's fault: OpenAI's `server_error`, not its `invalid_request_error`."""
        return self.status >= 500


@dataclass(frozen=True, slots=True)
class Failure:
    """A command could not be carried out, a handshake is refused, or the server must end the session."""

    kind: FailureKind
    message: str
    """What was wrong, and what would be right."""
    goes_on: bool = False
    """The session goes on, though failures of this kind may end one."""

    @property
    def code(self) -> str:
        """As clients are sent it."""
        return self.kind.code

    @property
    def close(self) -> CloseCode | None:
        """WebSocket close code if the session is over, None if it goes on."""
        return None if self.goes_on else self.kind.close


BROKEN = Failure(FailureKind.INTERNAL, "The server failed; its log says more.")
"""After an unexpected exception, which is logged."""
