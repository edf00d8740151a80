"""Options of the server, validated once, before anything is loaded."""

from __future__ import annotations

import dataclasses
import ipaddress
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path

from streaming_asr.core.options import OptionError, SessionOptions, check_options, option
from streaming_asr.server.hosts import host_name, is_loopback

SERVER, LIMITS, RECORDINGS = "server", "limits", "recordings over HTTP"
"""Groups of the options."""
_NO_KEY = (
    "{} can be reached from other machines, and no API key is set. Set one with --api-key-file or the environment "
    "variable STREAMING_ASR_API_KEYS, or give --allow-anonymous if every client may use the server"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the server listens, which clients it accepts, and how much it accepts from each.

    Raises:
        OptionError: a value is not allowed.
    """

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is all of them", group=SERVER, metavar="ADDRESS")
    port: int = option(8000, "port to listen on; 0 takes a free one", group=SERVER, range=(0, 65535), metavar="PORT")
    api_keys: tuple[str, ...] = option(
        (),
        "key that clients must send; without any, none is needed",
        group=SERVER,
        flag="--api-key",
        metavar="KEY",
    )
    allow_anonymous: bool = option(
        False, "whether clients on other machines need no key, where none is set", group=SERVER
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        "name by which clients reach the server, besides addresses, names without a dot and this machine's; `*` is any",
        group=SERVER,
        flag="--allowed-host",
        metavar="NAME",
    )
    allowed_origins: tuple[str, ...] = option(
        (),
        "browser origin allowed besides the server's own, such as https://app.example; `*` is any",
        group=SERVER,
        flag="--allowed-origin",
        metavar="ORIGIN",
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        "address or network of a proxy whose X-Forwarded-For names the client",
        group=SERVER,
        flag="--trusted-proxy",
        metavar="ADDRESS",
    )
    metrics_host: str = option(
        "127.0.0.1", "address for the metrics, where they have a port of their own", group=SERVER, metavar="ADDRESS"
    )
    metrics_port: int | None = option(
        None,
        "port for the metrics; without it they are on the server's own, behind its key",
        group=SERVER,
        range=(0, 65535),
        metavar="PORT",
    )
    replicas: int = option(
        1,
        "processes that share the port, each with a recognizer on its part of the devices or cores; Linux only",
        group=SERVER,
        range=(1, 256),
    )
    load_objective_s: float = option(
        0.5,
        "wait of finals for the recognizer at which the metric `load` is 1",
        group=SERVER,
        range=(0.01, 600),
    )
    otlp_endpoint: str | None = option(
        None,
        "where to send spans by OTLP over HTTP, such as http://localhost:4318; OTEL_EXPORTER_OTLP_ENDPOINT does too",
        group=SERVER,
        metavar="URL",
    )
    model_aliases: tuple[str, ...] = option(
        (),
        "another name that clients may give to the model; `*` is any",
        group=SERVER,
        flag="--model-alias",
        metavar="NAME",
    )
    translate_url: str | None = option(
        None,
        "chat API that translates finals for sessions with `translate_to`, such as http://localhost:11434/v1; its key "
        "is in STREAMING_ASR_TRANSLATE_KEY",
        group=SERVER,
        metavar="URL",
    )
    translate_model: str = option("", "name of the model there", group=SERVER, metavar="NAME")
    certificate: Path | None = option(None, "certificate, for https and wss", group=SERVER, metavar="PEM")
    private_key: Path | None = option(None, "private key of the certificate", group=SERVER, metavar="PEM")

    max_sessions: int = option(256, "sessions at once; more are refused as `busy`", group=LIMITS, range=(1, 100_000))
    max_speaker_sessions: int = option(
        0,
        "sessions at once with `speakers`; more are refused as `busy`; 0: ten a core",
        group=LIMITS,
        range=(0, 100_000),
    )
    max_file_sessions: int = option(
        32,
        "sessions at once that send files; more are refused as `busy`",
        group=LIMITS,
        range=(0, 10_000),
    )
    max_http_connections: int = option(
        500, "HTTP connections at once, besides WebSockets", group=LIMITS, range=(10, 1_000_000)
    )
    max_message_bytes: int = option(4 * 2**20, "size of one WebSocket message", group=LIMITS, range=(1_000, 2**30))
    max_held_s: float = option(
        60.0,
        "audio held per channel until it is decoded; beyond it the server stops reading",
        group=LIMITS,
        range=(10, 3_600),
    )
    max_session_s: float = option(4 * 3600.0, "audio in one session", group=LIMITS, range=(1, 7 * 86_400))
    idle_timeout_s: float = option(60.0, "time without any message from the client", group=LIMITS, range=(1, 86_400))
    resume_s: float = option(
        60.0,
        "time for which a session waits for a client whose connection is lost; 0: it does not",
        group=LIMITS,
        range=(0, 3_600),
    )
    max_parked_mib: int = option(
        256,
        "memory of sessions that wait, in MiB, beyond which the oldest are dropped; 0: none waits",
        group=LIMITS,
        range=(0, 2**20),
    )
    max_unread_events: int = option(
        1000, "messages that a client may leave unread", group=LIMITS, range=(10, 1_000_000)
    )
    max_unread_bytes: int = option(
        8 * 2**20, "size of the messages that a client may leave unread", group=LIMITS, range=(10_000, 2**30)
    )
    max_memory_mib: int = option(
        0,
        "memory of the server, in MiB, beyond which it is `busy`; 0 is nine tenths of all",
        group=LIMITS,
        range=(0, 2**24),
    )
    final_objective_s: float = option(
        2.0,
        "new sessions are refused as `busy` while a tenth of the last finals waited longer",
        group=LIMITS,
        range=(0.1, 600),
    )
    drain_timeout_s: float = option(
        15.0, "time at shutdown for sessions to get their last finals", group=LIMITS, range=(0, 3_600)
    )

    max_upload_bytes: int = option(
        2**30, "size of a recording, sent or fetched", group=RECORDINGS, range=(1_000, 2**40)
    )
    upload_timeout_s: float = option(
        1800.0,
        "time to receive a recording; one below 8000 bytes a second is cut off before",
        group=RECORDINGS,
        range=(1, 86_400),
    )
    max_kept_bytes: int = option(
        4 * 2**30, "size of all recordings received; more are refused as `busy`", group=RECORDINGS, range=(1_000, 2**44)
    )
    max_recording_s: float = option(4 * 3600.0, "audio in one recording", group=RECORDINGS, range=(1, 7 * 86_400))
    max_recordings: int = option(4, "recordings transcribed at once; others wait", group=RECORDINGS, range=(1, 1_000))
    allow_private_urls: bool = option(
        False, "whether recordings may be fetched from addresses that are not public", group=RECORDINGS
    )
    fetch_timeout_s: float = option(
        60.0, "time to fetch a recording that is named by its URL", group=RECORDINGS, range=(1, 3_600)
    )

    session: SessionOptions = field(default_factory=SessionOptions)
    """Defaults for what clients do not set."""

    def __post_init__(self) -> None:
        check_options(self)
        if any(not key.strip() for key in self.api_keys):
            raise OptionError("api_keys", "a key is empty")
        if not (self.api_keys or self.allow_anonymous or is_loopback(self.host)):
            raise OptionError("host", _NO_KEY.format(self.host))
        for name in self.allowed_hosts:
            if name != "*" and (host_name(name) != name.lower().rstrip(".") or "*" in name):
                raise OptionError("allowed_hosts", f"{name!r} is not a name such as asr.example, without a port")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise OptionError("trusted_proxies", f"{error}; give an address or a network") from None
        if self.metrics_port is None and self.metrics_host != "127.0.0.1":
            raise OptionError("metrics_host", "the metrics have no port of their own; give --metrics-port too")
        if self.otlp_endpoint is not None and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise OptionError("otlp_endpoint", f"{self.otlp_endpoint!r} is not a URL such as http://localhost:4318")
        if self.translate_url is not None:
            if not self.translate_url.startswith(("http://", "https://")):
                raise OptionError(
                    "translate_url", f"{self.translate_url!r} is not a URL such as http://localhost:11434/v1"
                )
            if not self.translate_model:
                raise OptionError("translate_url", "the model there is not known; give --translate-model too")
        for origin in self.allowed_origins:
            if origin != "*" and ("://" not in origin or origin.count("/") != 2):
                raise OptionError("allowed_origins", f"{origin!r} is not an origin such as https://app.example")
        if self.replicas > 1 and sys.platform != "linux":
            raise OptionError("replicas", f"several replicas need Linux, and this is {sys.platform}; leave it out")
        if (self.certificate is None) != (self.private_key is None):
            raise OptionError("certificate", "TLS needs both a certificate and its private key")

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, or None without TLS.

        Raises:
            OptionError: the files can't be read, or do not belong together.
        """
        if self.certificate is None or self.private_key is None:
            return None
        _check_pem("certificate", self.certificate, b"CERTIFICATE-----", "certificate")
        _check_pem("private_key", self.private_key, b"PRIVATE KEY-----", "private key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.private_key, self._refuse_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                problem = f"{self.private_key} is not the private key of {self.certificate}"
            else:
                problem = f"can't use {self.certificate} with {self.private_key}: {error}"
            raise OptionError("certificate", problem) from None
        return context

    def _refuse_passphrase(self) -> str:
        """Called where the private key is encrypted. OpenSSL would ask the terminal, which a service does not have."""
        remedy = f"decrypt it: openssl pkey -in {self.private_key} -out NEW_FILE"
        raise OptionError("private_key", f"{self.private_key} is encrypted; {remedy}")

    def changed(self, **changes: object) -> ServerOptions:
        """These options with some replaced, validated again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _check_pem(option: str, path: Path, mark: bytes, what: str) -> None:
    """Check that a file can be read and has a section of this kind in PEM format.

    Raises:
        OptionError: it can't, or has none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OptionError(option, f"can't read {path}: {error.strerror}") from None
    if mark not in content:
        raise OptionError(option, f"{path} has no {what} in PEM format")
