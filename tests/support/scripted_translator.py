"""A translator that follows a script."""

from __future__ import annotations

from collections.abc import Sequence

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Audio, Command, Opened, Send
from streaming_asr.protocols.failures import Failure


class Scripted:
    """A translator that says what it is to say, and reports events by their types.

    Args:
        at_first: when the client connects.
        after_audio: after each piece of audio.
    """

    def __init__(self, at_first: Sequence[Command], after_audio: Sequence[Command] = ()) -> None:
        self._at_first, self._after_audio = at_first, after_audio

    def connected(self) -> list[Command]:
        return list(self._at_first)

    def received(self, message: str | bytes) -> list[Command]:
        return [] if isinstance(message, str) else [Audio(message), *self._after_audio]

    def opened(self, opened: Opened) -> list[Command]:
        return [Send('{"type":"opened"}')]

    def configured(self, options: SessionOptions) -> list[Command]:
        return []

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return [Send('{"type":"events"}')]

    def failed(self, failure: Failure) -> list[Command]:
        return [Send(f'{{"type":"failed","code":"{failure.code}"}}')]
