"""Options of the server, validated once, before anything is loaded."""

from __future__ import annotations

import dataclasses
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from streaming_asr.core.options import OptionError, SessionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the server listens, whom it lets in, and how much it takes from each.

    Raises:
        OptionError: a value will not do.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one; the log says which."""
    api_keys: tuple[str, ...] = ()
    """Any of them opens the door; none: no key is asked for."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins besides the server's own, such as ``https://app.example``; ``*`` is any."""
    model_aliases: tuple[str, ...] = ()
    """Names that clients may give to the model, besides its own and those of services that they were written for."""
    certificate: Path | None = None
    private_key: Path | None = None

    max_sessions: int = 256
    max_message_bytes: int = 4 * 2**20
    """Of one WebSocket message."""
    max_held_s: float = 60.0
    """Seconds of audio a channel may hold that still need decoding; past it the server stops reading."""
    max_session_s: float = 4 * 3600.0
    """Seconds of audio in one session."""
    idle_timeout_s: float = 60.0
    """Seconds without any message from the client."""
    max_unread_events: int = 1000
    """Messages a slow client may leave unread."""
    final_objective_s: float = 2.0
    """New sessions are refused while finals wait longer than this."""
    drain_timeout_s: float = 15.0
    """At shutdown, seconds for sessions to get their last finals."""

    max_upload_bytes: int = 2**30
    """Of a recording sent or fetched over HTTP; it is kept on disk while it is transcribed."""
    max_recordings: int = 4
    """Recordings transcribed at once; others wait their turn."""
    allow_private_urls: bool = False
    """Whether recordings may be fetched from addresses that are not public."""
    fetch_timeout_s: float = 60.0
    """For a recording that is named by its URL."""

    session: SessionOptions = field(default_factory=SessionOptions)
    """Defaults for what clients do not say."""

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "port": (0, 65535),
            "max_sessions": (1, 100_000),
            "max_message_bytes": (1_000, 2**30),
            "max_held_s": (10, 3_600),
            "max_session_s": (1, 7 * 86_400),
            "idle_timeout_s": (1, 86_400),
            "max_unread_events": (10, 1_000_000),
            "final_objective_s": (0.1, 600),
            "drain_timeout_s": (0, 3_600),
            "max_upload_bytes": (1_000, 2**40),
            "max_recordings": (1, 1_000),
            "fetch_timeout_s": (1, 3_600),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(name, f"{getattr(self, name):g} is out of range; {low:g} to {high:g} is allowed")
        if any(not key.strip() for key in self.api_keys):
            raise OptionError("api_keys", "a key is empty")
        for origin in self.allowed_origins:
            if origin != "*" and ("://" not in origin or origin.count("/") != 2):
                raise OptionError("allowed_origins", f"{origin!r} is not an origin such as https://app.example")
        if (self.certificate is None) != (self.private_key is None):
            raise OptionError("certificate", "TLS wants both a certificate and its private key")

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, or None without TLS.

        Raises:
            OptionError: the files can't be read, or do not belong together.
        """
        if self.certificate is None or self.private_key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except (OSError, ssl.SSLError) as error:
            raise OptionError("certificate", f"can't use {self.certificate} with {self.private_key}: {error}") from None
        return context

    def changed(self, **changes: object) -> ServerOptions:
        """These options with some replaced, validated again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
