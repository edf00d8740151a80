"""This project's own protocol, docs/protocol.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.common.adapters import Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.talk import Message, Talk, whole
from clients.errors import StreamError
from clients.events import Done, Final, Partial, Ready, ServerError, SpeechEnded, decode_event

_NOT_BY_PAUSE = ("finalize", "length", "stop")
"""Reasons of `speech_ended` that say nothing of the speaker."""


class NativeTalk(Talk):
    """Finals are taken in the order in which they come, as a client does that trusts the server.

    Args:
        stable_only: show of partials only what the server holds to be stable, as a client does that wants text which
            hardly ever changes rather than text at once.
    """

    def __init__(self, *, stable_only: bool = False) -> None:
        super().__init__()
        self._stable_only = stable_only
        self._final = ""
        self._ends = 0
        self._partials: dict[int, str] = {}
        """Of each utterance that has no final yet."""

    def finalize(self) -> Sequence[Message]:
        return ('{"type":"finalize"}',)

    def finish(self) -> Sequence[Message]:
        return ('{"type":"stop"}',)

    def receive(self, message: Message) -> Reading | None:
        try:
            event = decode_event(message)
        except StreamError as error:
            raise SessionFailed(str(error)) from None
        if isinstance(event, Partial):
            self._partials[event.utterance] = event.stable if self._stable_only else event.stable + event.tentative
            return self._reading()
        if isinstance(event, Final):
            self._partials.pop(event.utterance, None)
            self._final = whole((self._final, event.text)).final
            return self._reading()
        if isinstance(event, SpeechEnded) and event.reason not in _NOT_BY_PAUSE:
            self._ends += 1
            return self._reading()
        if isinstance(event, Ready):
            self.opened = True
        elif isinstance(event, Done):
            self.ended = True
        elif isinstance(event, ServerError):
            reason = f"{event.code}: {event.message}"
            raise SessionFailed(reason) if self.opened else SessionRefused(reason)
        return None

    def _reading(self) -> Reading:
        text = whole((self._final,), (self._partials[number] for number in sorted(self._partials)))
        return replace(text, ends=self._ends)
