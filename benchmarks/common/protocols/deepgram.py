"""Deepgram's live transcription, `/v1/listen`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed
from benchmarks.common.protocols.talk import Message, Talk, broken, decoded, whole

MODEL = "nova-3"
_NORMAL = 1000


class _Alternative(msgspec.Struct):
    transcript: str = ""


class _Channel(msgspec.Struct):
    alternatives: list[_Alternative] = []


class _Told(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str = ""
    is_final: bool = False
    channel: _Channel | list[int] = []
    """An object in results, the channel's number in other messages."""
    description: str = ""
    message: str = ""


_DECODER = msgspec.json.Decoder(_Told)


class DeepgramTalk(Talk):
    def __init__(self) -> None:
        super().__init__()
        self.opened = True
        self._final = ""
        self._finishing = False

    def finalize(self) -> Sequence[Message]:
        return ('{"type":"Finalize"}',)

    def finish(self) -> Sequence[Message]:
        self._finishing = True
        return ('{"type":"CloseStream"}',)

    def heard(self, message: Message) -> Reading | None:
        told = decoded(_DECODER, message)
        if told.type == "Metadata":
            self.ended = self._finishing
        elif told.type == "Error":
            raise SessionFailed(told.description or told.message or "an error without a description")
        elif told.type == "Results" and isinstance(told.channel, _Channel):
            text = told.channel.alternatives[0].transcript if told.channel.alternatives else ""
            if told.is_final:
                self._final = whole((self._final, text)).final
                return whole((self._final,))
            return whole((self._final,), (text,))
        return None

    def closed(self, code: int, reason: str) -> None:
        if not (self._finishing and code == _NORMAL):
            raise broken(code, reason)
