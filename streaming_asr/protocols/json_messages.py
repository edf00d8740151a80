"""Text messages that are JSON objects distinguished by their `type`: reading them, and describing what is wrong.

Whatever a client sends, the only exception is `BadMessage`: also for what msgspec does not take, such as deep nesting.
"""

from __future__ import annotations

import re
import reprlib
import typing
from typing import Any, Generic, TypeVar

import msgspec

from streaming_asr.protocols.base64_audio import decode_base64
from streaming_asr.protocols.failures import FailureKind

M = TypeVar("M")
T = TypeVar("T")


class BadMessage(ValueError):
    """A client's message can't be read."""

    def __init__(
        self, kind: FailureKind, message: str, *, param: str | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        """What was wrong, and what would be right."""
        self.param = param
        """Path of the field that is wrong."""
        self.event_id = event_id
        """The client's own id of its message."""


class Envelope(msgspec.Struct):
    """The fields that identify a message which can't be read."""

    type: Any = None
    event_id: Any = None


_ENVELOPES = msgspec.json.Decoder(Envelope)
_FIELDS = msgspec.json.Decoder(dict[str, Any])
_UNNAMED = " - at `$[...]`"
_PATH = re.compile(r" - at `\$\.?(?!\[\.\.\.\]`$)(.*)`$")
"""The path of a field in msgspec's errors; it does not name the fields of a `dict`."""


class Reader(Generic[M]):
    """Reads the messages of one protocol.

    Numbers may be written as text, and whole ones with a decimal point.

    Args:
        union: of tagged structs, or a single one. A `bytes` field is base64 on the wire, as `decode_base64` takes it.
    """

    def __init__(self, union: Any) -> None:
        self._union = union
        self._decoder: msgspec.json.Decoder[M] = msgspec.json.Decoder(union, strict=False)
        self._types = [str(kind.__struct_config__.tag) for kind in typing.get_args(union) or (union,)]

    def read(self, message: str) -> M:
        """Read a client's message.

        Raises:
            BadMessage: it is not JSON, its type is unknown, or a field is wrong.
        """
        try:
            return self._decoded(self._decoder, message)
        except BadMessage as bad:
            if bad.kind is not FailureKind.INVALID_AUDIO or bad.param is None:
                raise
            return self._with_decoded(message, bad.param, bad.event_id)

    def fields(self, message: str) -> dict[str, Any]:
        """Read all fields of a client's message, including those that its type does not have.

        Raises:
            BadMessage: it is not a JSON object, or a number is out of range.
        """
        return self._decoded(_FIELDS, message)

    def _decoded(self, decoder: msgspec.json.Decoder[T], message: str) -> T:
        try:
            return decoder.decode(message)
        except msgspec.ValidationError as error:
            raise self._wrong(str(error), message) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise _not_json(error) from None

    def _with_decoded(self, message: str, field: str, event_id: str | None) -> M:
        """Read a message whose base64 msgspec does not accept; msgspec is tried first because it is faster."""
        fields = self.fields(message)
        try:
            fields[field] = decode_base64(fields[field])
        except ValueError as error:
            message = f"{error}, in `{field}`."
            raise BadMessage(FailureKind.INVALID_AUDIO, message, param=field, event_id=event_id) from None
        try:
            decoded: M = msgspec.convert(fields, self._union, strict=False)
        except msgspec.ValidationError as error:
            raise self._wrong(str(error), message) from None
        return decoded

    def _wrong(self, error: str, message: str) -> BadMessage:
        try:
            envelope = _ENVELOPES.decode(message)
        except msgspec.ValidationError:
            reason = f"Messages must be JSON objects with a `type`: {', '.join(self._types)}."
            return BadMessage(FailureKind.INVALID_MESSAGE, reason)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as worse:
            return _not_json(worse)
        event_id = envelope.event_id if isinstance(envelope.event_id, str) else None
        if envelope.type not in self._types:
            known = ", ".join(self._types)
            if envelope.type is None:
                unknown = f"The message has no `type`; the types are {known}."
            else:
                unknown = f"There is no message type {reprlib.repr(envelope.type)}; the types are {known}."
            return BadMessage(FailureKind.UNKNOWN_TYPE, unknown, param="type", event_id=event_id)
        path = _PATH.search(error)
        if path is None:
            return BadMessage(FailureKind.INVALID_VALUE, f"{error.removesuffix(_UNNAMED)}.", event_id=event_id)
        kind = FailureKind.INVALID_AUDIO if "base64" in error else FailureKind.INVALID_VALUE
        reason = f"{error[: path.start()]}, in `{path.group(1)}`."
        return BadMessage(kind, reason, param=path.group(1), event_id=event_id)


def _not_json(error: Exception) -> BadMessage:
    return BadMessage(FailureKind.INVALID_JSON, f"Messages must be JSON objects; this one is not: {error}.")
