"""The answers about a whole recording, in the formats of OpenAI's API."""

from __future__ import annotations

import json
import math
import time
import uuid
import zlib
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from streaming_asr.core.events import Done, Event, Final, SessionWarning
from streaming_asr.core.scripts import joined, with_space
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.text.subtitles import Cue, parts_of, render
from streaming_asr.text.timed_words import timed_words

DIARIZED = "diarized_json"
"""The format that says who speaks."""
FORMATS = ("json", "text", "srt", "verbose_json", "vtt", DIARIZED)
WORDY_FORMATS = ("srt", "vtt", DIARIZED)
"""Formats that gain from the times of words."""


WARNING_HEADER = "X-Transcription-Warning"
"""What was repaired in the recording."""


class ApiError(Exception):
    """Returned to the client in OpenAI's format."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @classmethod
    def of(cls, kind: FailureKind, message: str, *, param: str | None = None) -> ApiError:
        """An error of one of the kinds that the protocols share."""
        return cls(kind.status, message, code=kind.code, param=param)

    def to_json(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        # A client that is too slow would go on with its body, which nobody reads.
        headers = {"Connection": "close"} if self.status == 408 else None
        return JSONResponse(self.to_json(), status_code=self.status, headers=headers)


@dataclass(slots=True)
class Transcription:
    """The transcript of a recording so far."""

    finals: list[Final] = field(default_factory=list)
    """Those with text."""
    warnings: list[SessionWarning] = field(default_factory=list)
    """Warnings about the audio, such as what was repaired."""
    audio_ms: int = 0

    def take(self, event: Event) -> str:
        """Take an event of its session; returns the text that it adds, with the space before it."""
        if isinstance(event, Done):
            self.audio_ms = event.audio_ms
        elif isinstance(event, SessionWarning):
            self.warnings.append(event)
        if not isinstance(event, Final) or not event.text:
            return ""
        added = with_space(self.finals[-1].text if self.finals else "", event.text)
        self.finals.append(event)
        return added

    @property
    def text(self) -> str:
        return joined(final.text for final in self.finals)

    @property
    def language(self) -> str | None:
        """The language of most of the speech."""
        spoken: dict[str, int] = {}
        for final in self.finals:
            if final.language is not None:
                spoken[final.language] = spoken.get(final.language, 0) + final.end_ms - final.start_ms
        return max(spoken, key=spoken.__getitem__, default=None)

    @property
    def usage(self) -> dict[str, Any]:
        return {"type": "duration", "seconds": math.ceil(self.audio_ms / 1000)}


def answer(transcription: Transcription, style: str, *, by_word: bool) -> Response:
    """In one of `FORMATS`; `by_word` adds the words to `verbose_json`."""
    headers = _warning_headers(transcription)
    if style == "text":
        return PlainTextResponse(transcription.text + "\n", headers=headers)
    if style in ("srt", "vtt"):
        return PlainTextResponse(render(transcription.finals, style), headers=headers)
    body: dict[str, Any] = {"text": transcription.text, "usage": transcription.usage}
    if style == "verbose_json":
        body |= {
            "task": "transcribe",
            "language": transcription.language,
            "duration": transcription.audio_ms / 1000,
            "segments": [_segment(number, final) for number, final in enumerate(transcription.finals)],
        }
        if by_word:
            body["words"] = [word for final in transcription.finals for word in _words(final)]
    if style == DIARIZED:
        parts = [part for final in transcription.finals for part in parts_of(final)]
        body |= {
            "task": "transcribe",
            "duration": transcription.audio_ms / 1000,
            "segments": [diarized_segment(number, part) for number, part in enumerate(parts)],
        }
    if transcription.warnings:
        body["warnings"] = [_warning(warning) for warning in transcription.warnings]
    return JSONResponse(body, headers=headers)


def _warning(warning: SessionWarning) -> dict[str, str]:
    return {"code": warning.code, "message": warning.message}


def _warning_headers(transcription: Transcription) -> dict[str, str]:
    """For the formats that have no place for warnings: their messages in one line."""
    messages = " ".join(warning.message for warning in transcription.warnings)
    return {WARNING_HEADER: messages.encode("ascii", "replace").decode()} if messages else {}


def _segment(number: int, final: Final) -> dict[str, Any]:
    """A segment in Whisper's format, whose fields include numbers that only Whisper has."""
    raw = final.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": final.start_ms / 1000,
        "end": final.end_ms / 1000,
        "text": final.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": math.log(final.confidence) if final.confidence else 0.0,
        "compression_ratio": len(raw) / len(zlib.compress(raw)),
        "no_speech_prob": 0.0,
    }


def diarized_segment(number: int, part: Cue) -> dict[str, Any]:
    """What one speaker says in a row; speakers are called A, B and so on."""
    return {
        "id": f"seg_{number}",
        "type": "transcript.text.segment",
        "start": part.start_ms / 1000,
        "end": part.end_ms / 1000,
        "text": part.text,
        "speaker": "unknown" if part.speaker is None else chr(ord("A") + part.speaker),
    }


def _words(final: Final) -> list[dict[str, Any]]:
    return [
        {"word": word.text, "start": word.start_ms / 1000, "end": word.end_ms / 1000}
        for word in timed_words(final.text, final.start_ms, final.end_ms, final.words)
    ]


class EventStream:
    """A transcription as server-sent events, which OpenAI's clients read by `type`, vLLM's by `choices`."""

    def __init__(self, model: str) -> None:
        self._chunk = {
            "id": f"transcribe-{uuid.uuid4().hex}",
            "object": "transcription.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._segments = 0
        """Sent so far."""

    def delta(self, text: str) -> str:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return _event({"type": "transcript.text.delta", "delta": text, **self._chunk, "choices": [choice]})

    def segments(self, final: Final) -> str:
        """What each speaker says in a final, an event each."""
        events = ""
        for part in parts_of(final):
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
            # The `id` is the segment's.
            events += _event({**self._chunk, **diarized_segment(self._segments, part), "choices": [choice]})
            self._segments += 1
        return events

    def warning(self, warning: SessionWarning) -> str:
        """An event that OpenAI does not have; its clients ignore unknown events."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
        return _event({"type": "transcript.warning", **_warning(warning), **self._chunk, "choices": [choice]})

    def done(self, transcription: Transcription) -> str:
        body = {"type": "transcript.text.done", "text": transcription.text, "usage": transcription.usage}
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
        return _event({**body, **self._chunk, "choices": [choice]}) + "data: [DONE]\n\n"

    def failed(self, error: ApiError) -> str:
        return _event({"type": "error", **error.to_json()})


def chat_answer(model: str, content: str, transcription: Transcription) -> Response:
    return JSONResponse(
        {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        },
        headers=_warning_headers(transcription),
    )


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
