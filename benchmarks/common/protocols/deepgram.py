"""Deepgram's live transcription, `/v1/listen`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed
from benchmarks.common.protocols.talk import Message, Talk, broken, decoded, whole

MODEL = "nova-3"
_NORMAL = 1000


class _Alternative(msgspec.Struct):
    transcript: str = ""


class _Channel(msgspec.Struct):
    alternatives: list[_Alternative] = []


class _Event(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str = ""
    is_final: bool = False
    speech_final: bool = False
    channel: _Channel | list[int] = []
    """An object in results, the channel's number in other messages."""
    description: str = ""
    message: str = ""


_DECODER = msgspec.json.Decoder(_Event)


class DeepgramTalk(Talk):
    def __init__(self) -> None:
        super().__init__()
        self.opened = True
        self._final = ""
        self._ends = 0
        self._finishing = False

    def finalize(self) -> Sequence[Message]:
        return ('{"type":"Finalize"}',)

    def finish(self) -> Sequence[Message]:
        self._finishing = True
        return ('{"type":"CloseStream"}',)

    def receive(self, message: Message) -> Reading | None:
        event = decoded(_DECODER, message)
        if event.type == "Metadata":
            self.ended = self._finishing
        elif event.type == "Error":
            raise SessionFailed(event.description or event.message or "an error without a description")
        elif event.type == "Results" and isinstance(event.channel, _Channel):
            text = event.channel.alternatives[0].transcript if event.channel.alternatives else ""
            self._ends += event.speech_final
            if event.is_final:
                self._final = whole((self._final, text)).final
                return replace(whole((self._final,)), ends=self._ends)
            return replace(whole((self._final,), (text,)), ends=self._ends)
        return None

    def closed(self, code: int, reason: str) -> None:
        if not (self._finishing and code == _NORMAL):
            raise broken(code, reason)
