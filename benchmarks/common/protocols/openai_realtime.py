"""OpenAI's realtime protocol: a transcription session as it is generally available, turns by the server's detection."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.talk import Message, Talk, decoded, whole

MODEL = "gpt-4o-transcribe"
SAMPLE_RATE = 24_000
"""Hz; OpenAI takes no other for PCM."""
_NOTHING_TO_COMMIT = "input_audio_buffer_commit_empty"
_TRANSCRIPTION = "conversation.item.input_audio_transcription."


class _Error(msgspec.Struct):
    message: str = ""
    code: str | None = None


class _Event(msgspec.Struct):
    """Any message, as far as it is needed here."""

    type: str
    item_id: str = ""
    delta: str = ""
    transcript: str | None = None
    error: _Error | None = None


_DECODER = msgspec.json.Decoder(_Event)


class _Item(msgspec.Struct):
    text: str = ""
    completed: bool = False


class OpenAiTalk(Talk):
    """Items are read in the order in which they were spoken, whichever is completed first.

    Args:
        model: the transcription model.
        language: ISO 639-1; empty lets the server detect it.
    """

    def __init__(self, model: str, language: str) -> None:
        super().__init__()
        self._transcription = {"model": model} | ({"language": language} if language else {})
        self._items: dict[str, _Item] = {}
        self._ends = 0
        self._finishing = False
        """The last commit is on its way."""
        self._answered = False
        """It was answered, by an item or by the news that there was nothing to commit."""

    def hello(self) -> Sequence[Message]:
        audio = {
            "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
            "transcription": self._transcription,
            "turn_detection": {"type": "server_vad"},
        }
        session = {"type": "transcription", "audio": {"input": audio}}
        return (json.dumps({"type": "session.update", "session": session}),)

    def audio(self, pcm: bytes) -> Message:
        return f'{{"type":"input_audio_buffer.append","audio":"{base64.b64encode(pcm).decode()}"}}'

    def finalize(self) -> Sequence[Message]:
        return ('{"type":"input_audio_buffer.commit"}',)

    def finish(self) -> Sequence[Message]:
        self._finishing = True
        return ('{"type":"input_audio_buffer.commit"}',)

    def receive(self, message: Message) -> Reading | None:
        event = decoded(_DECODER, message)
        reading = None
        if event.type == "session.updated":
            self.opened = True
        elif event.type == "error":
            self._wrong(event.error or _Error())
        elif event.type in ("input_audio_buffer.speech_started", "input_audio_buffer.committed"):
            self._items.setdefault(event.item_id, _Item())
            self._answered |= self._finishing and event.type.endswith("committed")
        elif event.type == "input_audio_buffer.speech_stopped":
            self._ends += 1
            reading = self._reading()
        elif event.type.startswith(_TRANSCRIPTION):
            reading = self._transcribed(event)
        self.ended = self._answered and all(item.completed for item in self._items.values())
        return reading

    def _transcribed(self, event: _Event) -> Reading | None:
        item = self._items.setdefault(event.item_id, _Item())
        kind = event.type.removeprefix(_TRANSCRIPTION)
        if kind == "delta":
            item.text += event.delta
        elif kind == "completed":
            item.text, item.completed = event.transcript or "", True
        elif kind == "failed":
            raise SessionFailed(event.error.message if event.error else "an item could not be transcribed")
        else:
            return None
        return self._reading()

    def _reading(self) -> Reading:
        items = list(self._items.values())
        done = next((number for number, item in enumerate(items) if not item.completed), len(items))
        text = whole((item.text for item in items[:done]), (item.text for item in items[done:]))
        return replace(text, ends=self._ends)

    def _wrong(self, error: _Error) -> None:
        if error.code == _NOTHING_TO_COMMIT:
            self._answered |= self._finishing
            return
        reason = f"{error.code}: {error.message}"
        raise SessionFailed(reason) if self.opened else SessionRefused(reason)
