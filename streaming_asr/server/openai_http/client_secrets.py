"""Short-lived keys, which a backend fetches for its browser clients: `POST /v1/realtime/client_secrets`."""

from __future__ import annotations

import hashlib
import secrets
import time
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
MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 30.0
PREFIX = "ek_"
"""By which OpenAI's browser client knows a key that may be in a page."""
_TTL_S = 600
_MIN_TTL_S, _MAX_TTL_S = 10, 7_200


class TooManySecrets(Exception):
    """No further key is issued before one expires."""


class ClientSecrets:
    """The keys that live. Times are seconds since 1970.

    Args:
        limit: how many may live at once.
    """

    def __init__(self, limit: int = MAX_SECRETS) -> None:
        self._limit = limit
        self._live: dict[bytes, tuple[float, dict[str, Any]]] = {}
        """Digest of a key -> when it expires, and what it says of its sessions. Digests are looked up, so that the
        time it takes tells nothing of the keys."""

    def issue(self, session: dict[str, Any], ttl_s: float, now: float) -> str:
        """A new key.

        Raises:
            TooManySecrets: `limit` keys live.
        """
        if len(self._live) >= self._limit:
            self._live = {digest: entry for digest, entry in self._live.items() if entry[0] > now}
        if len(self._live) >= self._limit:
            raise TooManySecrets
        value = PREFIX + secrets.token_urlsafe(24)
        self._live[_digest(value)] = (now + ttl_s, session)
        return value

    def session_of(self, value: str | None, now: float) -> dict[str, Any] | None:
        """What a living key says of its sessions; None if it is none."""
        expires, session = self._live.get(_digest(value or ""), (0.0, {}))
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
    """Answer a request whose API key was right.

    Args:
        defaults: the server's, for what the session it describes does not say.
    """
    try:
        wanted, configuration = _read(await _body(request), defaults)
        if configuration.model and not models.takes(configuration.model):
            param = "session.audio.input.transcription.model"
            raise ApiError.of(FailureKind.MODEL_NOT_FOUND, models.unknown(configuration.model), param=param)
        ttl_s = (wanted.expires_after or ExpiresAfter()).seconds
        if not _MIN_TTL_S <= ttl_s <= _MAX_TTL_S:
            message = f"expires_after.seconds is {ttl_s}; {_MIN_TTL_S} to {_MAX_TTL_S} is allowed."
            raise ApiError.of(FailureKind.INVALID_VALUE, message, param="expires_after.seconds")
        now = time.time()
        value = store.issue(wanted.session or {}, ttl_s, now)
    except TooManySecrets:
        message = f"{MAX_SECRETS} client secrets live; wait until some expire."
        return ApiError.of(FailureKind.TOO_MANY_CLIENT_SECRETS, message).response()
    except ApiError as error:
        return error.response()
    shown = {
        "id": f"sess_{secrets.token_hex(8)}",
        "object": "realtime.transcription_session",
        "type": "transcription",
        **configuration.to_dict(flat=False),
    }
    return JSONResponse({"value": value, "expires_at": int(now + ttl_s), "session": shown})


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in Request(request.scope, bounded(request.receive, 2 * MAX_BODY_BYTES, BODY_TIMEOUT_S)).stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError.of(FailureKind.REQUEST_TOO_LARGE, f"The body is longer than {MAX_BODY_BYTES} bytes.")
    return body


def _read(body: bytes, defaults: SessionOptions) -> tuple[Wanted, Configuration]:
    try:
        wanted = msgspec.json.decode(body or b"{}", type=Wanted, strict=False)
        configuration = Configuration(defaults).updated(msgspec.convert(wanted.session or {}, Session, strict=False))
        defaults.changed(**configuration.options())
    except (msgspec.DecodeError, UnicodeError, RecursionError, OptionError) as error:
        raise ApiError.of(FailureKind.INVALID_VALUE, f"The body must be JSON that fits: {error}.") from None
    return wanted, configuration
