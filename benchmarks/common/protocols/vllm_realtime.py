"""vLLM's realtime protocol: one commit starts the audio, a final one ends it, and all of it is one text.

Deltas are counted as partial text until the end: only `transcription.done` says that the text stands.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.talk import Message, Talk, decoded, whole


class _Event(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str
    delta: str = ""
    text: str = ""
    error: str | dict[str, object] = ""
    code: str | None = None


_DECODER = msgspec.json.Decoder(_Event)


class VllmTalk(Talk):
    """One session of vLLM's realtime protocol.

    Args:
        model: that the server was started with.
    """

    can_finalize = False

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._text = ""

    def hello(self) -> Sequence[Message]:
        return json.dumps({"type": "session.update", "model": self._model}), '{"type":"input_audio_buffer.commit"}'

    def audio(self, pcm: bytes) -> Message:
        return f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(pcm).decode()}"}}'

    def finish(self) -> Sequence[Message]:
        return ('{"type":"input_audio_buffer.commit","final":true}',)

    def receive(self, message: Message) -> Reading | None:
        event = decoded(_DECODER, message)
        if event.type == "session.created":
            self.opened = True
        elif event.type == "transcription.delta":
            self._text += event.delta
            return whole((), (self._text,))
        elif event.type == "transcription.done":
            self.ended = True
            return whole((event.text,))
        elif event.type == "error":
            reason = f"{event.code}: {event.error}" if event.code else str(event.error)
            raise SessionRefused(reason) if not self._text else SessionFailed(reason)
        return None
