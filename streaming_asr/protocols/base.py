"""The interface of wire protocols: messages and events in, commands out. No sockets here.

A new protocol is a file or folder with a `Translator`, and an entry in `registry.py`: docs/extending/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Capabilities
from streaming_asr.protocols.failures import CloseCode, Failure
from streaming_asr.protocols.model_names import ModelNames


@dataclass(frozen=True, slots=True)
class Handshake:
    """How a client connected."""

    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    subprotocols: tuple[str, ...] = ()
    time: float = 0.0
    """When, in seconds since 1970."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The session that the client's short-lived key was issued for."""
    models: ModelNames = field(default_factory=ModelNames)
    """Names that it may use for the model."""
    resume_token: str = ""
    """For a session of this connection that outlives it; only its client is sent it."""
    resume_s: float = 0.0
    """Time for which such a session is kept; 0: none is."""


class BadRequest(ValueError):
    """A parameter of the connection is not valid; the message says what would be right. Raised by the constructors of
    translators whose protocol refuses the handshake for that."""


@dataclass(frozen=True, slots=True)
class RefusalAnswer:
    """The HTTP answer to a refused handshake."""

    body: Mapping[str, Any]
    """Sent as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session was opened as asked."""

    session: str
    options: SessionOptions
    """Those in force, which may differ from those requested."""
    capabilities: Capabilities


# Commands: what a translator returns, for the connection to carry out in this order.


@dataclass(frozen=True, slots=True)
class Open:
    """Open the session, or replace one that has received no audio. Answered by `Translator.opened` or `.failed`."""

    options: SessionOptions


@dataclass(frozen=True, slots=True)
class Audio:
    """Feed wire audio to the session."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Configure:
    """Change options in mid-stream. Answered by `Translator.configured` or `.failed`."""

    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finalize:
    """End the open utterance now. `Translator.on_events` is called at once with the events of that, even if there are
    none."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop the audio of the open utterance: it gets no final. `Translator.on_events` is called as for `Finalize`."""


@dataclass(frozen=True, slots=True)
class ReportRepair:
    """Report that the translator repaired what the client sent. `Translator.on_events` gets a warning, once a session
    and code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio comes; `Done` follows."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Limit the time of the connection. A later one takes the place of those before."""

    life_s: float | None
    """Time after which it ends with a `Failure` of the code ``session_expired``; None for no such time."""
    idle_s: float
    """The client may be silent for this long, if the server's own limit is shorter."""


@dataclass(frozen=True, slots=True)
class AtPosition:
    """Call `then` once the session has received this much audio, even if it brings no events. A later one takes the
    place of those before."""

    audio_ms: int
    then: Callable[[int], Sequence[Command]]
    """Takes how much audio was received, ms; returns messages."""


@dataclass(frozen=True, slots=True)
class Resumable:
    """From now on the session outlives its connection, for a client that presents this token."""

    token: str
    replay: Replay


@dataclass(frozen=True, slots=True)
class Claim:
    """Continue the session that this token was given for, in place of this connection's own; its `Replay` answers."""

    token: str
    seen: int
    """Number of the last message that the client received."""
    otherwise: tuple[Command, ...]
    """Carried out if there is no such session."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send one WebSocket message."""

    message: str | bytes
    replaces: int | None = None
    """Number of the utterance or item that this is a partial of: while it is unsent, a later message with the same
    number replaces it. None: it is always sent."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket; nothing more is sent."""

    code: CloseCode = CloseCode.NORMAL
    reason: str = ""


Command = (
    Open
    | Audio
    | Configure
    | Finalize
    | Clear
    | ReportRepair
    | Stop
    | Lifetime
    | AtPosition
    | Resumable
    | Claim
    | Send
    | Close
)


class Replay(Protocol):
    """What a client missed of a session that outlives its connections."""

    @property
    def size(self) -> int:
        """Bytes of the messages that are kept."""

    def resumed(self, seen: int) -> list[Send | Close] | None:
        """A client is connected again: the messages that follow the one of this number. None: some are gone."""


class Translator(Protocol):
    """One connection's side of a wire protocol."""

    def connected(self) -> list[Command]:
        """The socket is open."""

    def received(self, message: str | bytes) -> list[Command]:
        """The client sent a message. Never raises: the answer to a bad message is an error in the protocol's format."""

    def opened(self, opened: Opened) -> list[Command]:
        """An `Open` was carried out."""

    def configured(self, options: SessionOptions) -> list[Command]:
        """A `Configure` was carried out; these are the options in force."""

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        """The session's events, in order."""

    def failed(self, failure: Failure) -> list[Command]:
        """A command could not be carried out, or the server ends the session: an error in the protocol's format, and
        `Close` if `failure.close` is not None."""


def assert_never(value: NoReturn) -> NoReturn:
    """For the last case of a `match`: mypy reports a type that no case takes. (`typing` has it from Python 3.11 on.)"""
    raise AssertionError(f"unexpected {value!r}")


def plain_refusal(refusal: Failure) -> RefusalAnswer:
    """The answer to a refused handshake in OpenAI's format, which most protocols use."""
    kind = "server_error" if refusal.kind.server_error else "invalid_request_error"
    error = {"code": refusal.code, "message": refusal.message, "type": kind, "param": None}
    return RefusalAnswer({"error": error})


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """An entry of `protocols/registry.py`."""

    translator: Callable[[Handshake, SessionOptions], Translator]
    """Makes the translator of a connection; the options are the server's defaults. May raise `BadRequest`."""
    refused: Callable[[Failure], RefusalAnswer] = plain_refusal
