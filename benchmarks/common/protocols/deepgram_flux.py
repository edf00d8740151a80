"""Deepgram's Flux, `/v2/listen`: one turn of a conversation after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed
from benchmarks.common.protocols.talk import Message, Talk, broken, decoded, whole

MODEL = "flux-general-en"
_NORMAL = 1000


class _Event(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str = ""
    event: str = ""
    transcript: str = ""
    description: str = ""


_DECODER = msgspec.json.Decoder(_Event)


class FluxTalk(Talk):
    """The text of a turn is final at `EndOfTurn`. What an `EagerEndOfTurn` has may still change."""

    can_finalize = False

    def __init__(self) -> None:
        super().__init__()
        self._final = ""
        self._ends = 0
        self._finishing = False

    def finish(self) -> Sequence[Message]:
        self._finishing = True
        return ('{"type":"CloseStream"}',)

    def receive(self, message: Message) -> Reading | None:
        event = decoded(_DECODER, message)
        if event.type == "Connected":
            self.opened = True
        elif event.type == "Error":
            raise SessionFailed(event.description or "an error without a description")
        elif event.type == "TurnInfo":
            if event.event == "EndOfTurn":
                self._ends += 1
                self._final = whole((self._final, event.transcript)).final
                return replace(whole((self._final,)), ends=self._ends)
            return replace(whole((self._final,), (event.transcript,)), ends=self._ends)
        return None

    def closed(self, code: int, reason: str) -> None:
        if not (self._finishing and code == _NORMAL):
            raise broken(code, reason)
        self.ended = True
