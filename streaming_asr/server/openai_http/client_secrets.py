"""Short-lived keys, which a backend fetches for its browser clients: `POST /v1/realtime/client_secrets`."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.openai.session import Configuration, Session
from streaming_asr.server.openai_http.answers import ApiError
from streaming_asr.server.openai_http.bodies import bounded

MAX_SECRETS = 10_000
MAX_SECRETS_BYTES = 16 * 2**20
"""Bytes of the sessions of all keys that have not expired."""
MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 30.0
PREFIX = "ek_"
"""Marks a key that may be in a page; OpenAI's browser client checks it."""
_TTL_S = 600
_MIN_TTL_S, _MAX_TTL_S = 10, 7_200


class TooManySecrets(Exception):
    """No further key is issued before one expires."""


class ClientSecrets:
    """The keys that have not expired. Times are seconds of a clock that never goes back.

    Args:
        limit: the most keys at once.
        limit_bytes: of all their sessions.
        share: is called with each new key, in the form of `add`'s arguments.
    """

    def __init__(
        self,
        limit: int = MAX_SECRETS,
        limit_bytes: int = MAX_SECRETS_BYTES,
        share: Callable[[bytes, float, bytes], None] = lambda digest, expires, session: None,
    ) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._share = share
        self._bytes = 0
        self._live: dict[bytes, tuple[float, bytes]] = {}
        """Digest of a key -> when it expires, and the session it was issued for. Looking up digests takes a time that
        reveals nothing about the keys."""

    def issue(self, session: Session, ttl_s: float, now: float) -> str:
        """Issue a new key.

        Raises:
            TooManySecrets: there are `limit` keys, or their sessions would be larger than `limit_bytes`.
        """
        # Encoded, because Python objects are many times larger; unknown fields are left out.
        encoded = msgspec.json.encode(session)
        self._make_room(encoded, now)
        if self._full(encoded):
            raise TooManySecrets
        value = PREFIX + secrets.token_urlsafe(24)
        self._keep(_digest(value), now + ttl_s, encoded)
        self._share(_digest(value), now + ttl_s, encoded)
        return value

    def add(self, digest: bytes, expires: float, session: bytes, now: float) -> None:
        """Accept a key that another process of this server has issued. Dropped if there are too many.

        Args:
            digest: SHA-256 of the key.
            session: encoded, as `issue` does.
        """
        self._make_room(session, now)
        if not self._full(session):
            self._keep(digest, expires, session)

    def _keep(self, digest: bytes, expires: float, session: bytes) -> None:
        self._live[digest] = (expires, session)
        self._bytes += len(session)

    def _make_room(self, session: bytes, now: float) -> None:
        """Forget the keys that have expired, if there is no room."""
        if self._full(session):
            self._live = {digest: entry for digest, entry in self._live.items() if entry[0] > now}
            self._bytes = sum(len(kept) for _, kept in self._live.values())

    def _full(self, more: bytes) -> bool:
        return len(self._live) >= self._limit or self._bytes + len(more) > self._limit_bytes

    def lives(self, value: str | None, now: float) -> bool:
        """Whether a key exists and has not expired."""
        return self._entry(value, now) is not None

    def session_of(self, value: str | None, now: float) -> dict[str, Any] | None:
        """The session that a key was issued for, in the form of `Session`; None if there is no such key."""
        entry = self._entry(value, now)
        return msgspec.json.decode(entry, type=dict[str, Any]) if entry is not None else None

    def _entry(self, value: str | None, now: float) -> bytes | None:
        expires, session = self._live.get(_digest(value or ""), (now, b""))
        return session if expires > now else None


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


class ExpiresAfter(msgspec.Struct):
    anchor: Literal["created_at"] = "created_at"
    seconds: int = _TTL_S


class Wanted(msgspec.Struct):
    """The body of the request."""

    expires_after: ExpiresAfter | None = None
    session: dict[str, Any] | None = None


async def issue_client_secret(
    request: Request, store: ClientSecrets, defaults: SessionOptions, models: ModelNames
) -> Response:
    """Answer a request whose API key is valid.

    Args:
        defaults: the server's, for what the session it describes does not say.
    """
    try:
        wanted, session, configuration = _read(await _body(request), defaults)
        if configuration.model and not models.takes(configuration.model):
            param = "session.audio.input.transcription.model"
            raise ApiError.of(FailureKind.MODEL_NOT_FOUND, models.unknown(configuration.model), param=param)
        ttl_s = (wanted.expires_after or ExpiresAfter()).seconds
        if not _MIN_TTL_S <= ttl_s <= _MAX_TTL_S:
            message = f"expires_after.seconds is {ttl_s}; {_MIN_TTL_S} to {_MAX_TTL_S} is allowed."
            raise ApiError.of(FailureKind.INVALID_VALUE, message, param="expires_after.seconds")
        expires_at = int(time.time() + ttl_s)
        value = store.issue(session, ttl_s, time.monotonic())
    except TooManySecrets:
        message = f"{MAX_SECRETS} client secrets, or {MAX_SECRETS_BYTES} bytes of them, live; wait until some expire."
        return ApiError.of(FailureKind.TOO_MANY_CLIENT_SECRETS, message).response()
    except ApiError as error:
        return error.response()
    shown = {
        "id": f"sess_{secrets.token_hex(8)}",
        "object": "realtime.transcription_session",
        "type": "transcription",
        **configuration.to_dict(flat=False),
    }
    return JSONResponse({"value": value, "expires_at": expires_at, "session": shown})


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in Request(request.scope, bounded(request.receive, 2 * MAX_BODY_BYTES, BODY_TIMEOUT_S)).stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError.of(FailureKind.REQUEST_TOO_LARGE, f"The body is longer than {MAX_BODY_BYTES} bytes.")
    return body


def _read(body: bytes, defaults: SessionOptions) -> tuple[Wanted, Session, Configuration]:
    try:
        wanted = msgspec.json.decode(body or b"{}", type=Wanted, strict=False)
        session = msgspec.convert(wanted.session or {}, Session, strict=False)
        configuration = Configuration(defaults).updated(session)
        defaults.changed(**configuration.options())
    except (msgspec.DecodeError, UnicodeError, RecursionError, OptionError) as error:
        raise ApiError.of(FailureKind.INVALID_VALUE, f"The body must be JSON that fits: {error}.") from None
    return wanted, session, configuration
