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


class _Told(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str
    delta: str = ""
    text: str = ""
    error: str | dict[str, object] = ""
    code: str | None = None


_DECODER = msgspec.json.Decoder(_Told)


class VllmTalk(Talk):
    """Args:
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

    def heard(self, message: Message) -> Reading | None:
        told = decoded(_DECODER, message)
        if told.type == "session.created":
            self.opened = True
        elif told.type == "transcription.delta":
            self._text += told.delta
            return whole((), (self._text,))
        elif told.type == "transcription.done":
            self.ended = True
            return whole((told.text,))
        elif told.type == "error":
            reason = f"{told.code}: {told.error}" if told.code else str(told.error)
            raise SessionRefused(reason) if not self._text else SessionFailed(reason)
        return None
