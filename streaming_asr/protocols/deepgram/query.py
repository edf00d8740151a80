"""What both of Deepgram's protocols share when a client connects: the query, refusals, the request's id."""

from __future__ import annotations

import json
import re
import reprlib
import uuid
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from streaming_asr.annotators import figures
from streaming_asr.core.options import MAX_RATE, MIN_RATE, Encoding, OptionError, SessionOptions
from streaming_asr.protocols.base import BadRequest, RefusalAnswer
from streaming_asr.protocols.failures import Failure
from streaming_asr.protocols.model_names import ModelNames

_ENCODINGS = {
    "linear16": Encoding.S16LE,
    "linear32": Encoding.F32LE,
    "mulaw": Encoding.MULAW,
    "alaw": Encoding.ALAW,
    "flac": Encoding.AUTO,
    "ogg-opus": Encoding.AUTO,
}
N = TypeVar("N", int, float)

_ERROR_CODES = {
    401: "INVALID_AUTH",
    403: "INSUFFICIENT_PERMISSIONS",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_SERVER_ERROR",
}
_REDACTED = {
    "numbers": "numbers",
    "true": "numbers",
    "aggressive_numbers": "numbers",
    "pci": "pci",
    "credit_card": "pci",
    "ssn": "ssn",
    "pii": "pii",
    "phone_number": "pii",
    "email_address": "pii",
}
"""Deepgram's names of what is redacted, and the session's."""
_WEIGHT = re.compile(r":-?\d+(\.\d+)?$")


class Query:
    """A connection's query, with Deepgram's names. Unknown parameters are ignored."""

    def __init__(self, query: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in query:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """A parameter's value; None where it is absent or empty."""
        return self._values.get(name, [""])[-1] or None

    def texts(self, name: str) -> list[str]:
        """A parameter that may be repeated; the JavaScript client sends lists as JSON instead."""
        texts: list[str] = []
        for value in self._values.get(name, []):
            if value.startswith("["):
                try:
                    listed = json.loads(value)
                except ValueError:
                    listed = None
                if isinstance(listed, list) and all(isinstance(item, str) for item in listed):
                    texts += listed
                    continue
            texts.append(value)
        return [text.strip() for text in texts if text.strip()]

    def flag(self, name: str) -> bool | None:
        """A parameter that is true or false; None where it is absent or empty.

        Raises:
            BadRequest: it is neither.
        """
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise BadRequest(f"{name}: {value!r} is neither true nor false")
        return value.lower() == "true"

    def number(self, name: str, low: float, high: float) -> float | None:
        """A parameter that is a number; None where it is absent or empty.

        Raises:
            BadRequest: it is not a number, or out of range.
        """
        return self._converted(name, float, "a number", low, high)

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A parameter that is a whole number, which may be written `16000.0`; None where it is absent or empty.

        Raises:
            BadRequest: it is not a whole number, or out of range.
        """
        return self._converted(name, int, "a whole number", low, high)

    def _converted(self, name: str, kind: type[N], kind_name: str, low: N, high: N) -> N | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            number = msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError:
            raise BadRequest(f"{name}: {reprlib.repr(value)} is not {kind_name}") from None
        if not low <= number <= high:
            raise BadRequest(f"{name}: {number} is out of range; {low:g} to {high:g} is allowed")
        return number

    def check_model(self, models: ModelNames) -> None:
        """Check that the server has the model that the query names.

        Raises:
            BadRequest: it has not.
        """
        name = self.text("model")
        if name is not None and not models.takes(name):
            raise BadRequest(f"model: {models.unknown(name)}")

    def audio(self) -> dict[str, Any]:
        """Options for `encoding` and `sample_rate`. Without an encoding the audio is a file, or else linear16.

        Raises:
            BadRequest: they are not valid.
        """
        encoding = self.text("encoding")
        if encoding is not None and encoding not in _ENCODINGS:
            raise BadRequest(f"encoding: {encoding!r} is not supported; use one of {', '.join(_ENCODINGS)}")
        usual = 8_000 if encoding in ("mulaw", "alaw") else 16_000
        rate = self.whole("sample_rate", MIN_RATE, MAX_RATE)
        return {"encoding": _ENCODINGS[encoding] if encoding else Encoding.AUTO, "sample_rate": rate or usual}

    def key_terms(self) -> tuple[str, ...]:
        """`keyterm` and `keywords`, whose weights (`word:2`) have no meaning here."""
        return tuple([*self.texts("keyterm"), *(_WEIGHT.sub("", word) for word in self.texts("keywords"))])

    def text_options(self) -> dict[str, Any]:
        """Options for `smart_format`, `numerals`, `replace`, `profanity_filter` and `redact`, where they are given.

        Raises:
            BadRequest: a value is not one of Deepgram's, or names what can't be redacted here.
        """
        options: dict[str, Any] = {}
        numerals, smart = self.flag("numerals"), self.flag("smart_format")
        if numerals is not None or smart is not None:
            # Many clients send `smart_format` without a thought: it is no reason to refuse them.
            options["itn"] = bool(numerals) or (bool(smart) and figures.available())
        if self.flag("profanity_filter") is not None:
            options["profanity_filter"] = self.flag("profanity_filter")
        if replacements := self.texts("replace"):
            # Deepgram's clients escape each side by itself, within the escaped query.
            options["replace"] = tuple(unquote(one) for one in replacements)
        if asked := [part.strip() for value in self.texts("redact") for part in value.split(",")]:
            kinds = [kind for kind in asked if kind != "false"]
            for kind in kinds:
                if kind not in _REDACTED:
                    shown = reprlib.repr(kind)
                    raise BadRequest(f"redact: {shown} can't be redacted here; these can: {', '.join(_REDACTED)}")
            options["redact"] = tuple(dict.fromkeys(_REDACTED[kind] for kind in kinds))
        return options


def with_options(defaults: SessionOptions, **options: Any) -> SessionOptions:
    """The server's defaults with the query's options.

    Raises:
        BadRequest: a value is out of range.
    """
    try:
        return defaults.changed(**options)
    except OptionError as error:
        raise BadRequest(str(error)) from None


def refusal_answer(refusal: Failure) -> RefusalAnswer:
    """A refused handshake; some clients read the header, others the body."""
    code = _ERROR_CODES.get(refusal.kind.status, "INVALID_QUERY_PARAMETER")
    request_id = str(uuid.uuid4())
    printable = "".join(character if " " <= character <= "~" else "?" for character in refusal.message)
    headers = {"dg-error": printable, "dg-request-id": request_id}
    return RefusalAnswer({"err_code": code, "err_msg": refusal.message, "request_id": request_id}, headers)


def make_request_id(session: str) -> str:
    """The id that Deepgram's clients know a session by, which must be a UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, session))
