"""Whole recordings over HTTP, in the words of OpenAI's API, through the pipeline of live streams.

A recording is a session that sends faster than real time, so live sessions go before it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from streaming_asr.events import Final
from streaming_asr.file_stream import stream_file
from streaming_asr.media import UnreadableMedia, read_audio
from streaming_asr.server.auth import key_fits, offered_key
from streaming_asr.server.fetch import FetchRefused, fetch
from streaming_asr.server.service import Refused, Service
from streaming_asr.settings import MAX_CONTEXT_CHARS, OptionError, SessionOptions
from streaming_asr.subtitles import written

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
MAX_CHAT_BYTES = 64 * 2**20
"""Of a chat request, whose audio may be inside; longer recordings are uploaded or named by URL."""


class ApiError(Exception):
    """Told to the client in OpenAI's form."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def response(self) -> Response:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, status_code=self.status)


class AudioPart(msgspec.Struct):
    """Audio inside a chat request, base64."""

    data: str
    format: str = "wav"


class AudioUrl(msgspec.Struct):
    url: str


class Part(msgspec.Struct):
    """Part of a message's content; of those that are no audio, text is context."""

    type: str
    text: str = ""
    audio_url: AudioUrl | None = None
    input_audio: AudioPart | None = None


class Message(msgspec.Struct):
    role: str
    content: str | list[Part]


class Chat(msgspec.Struct):
    """A chat request, as far as it matters here; the rest is ignored."""

    messages: list[Message]
    model: str = ""
    stream: bool = False
    language: str | None = None


Handler = Callable[[Request], Awaitable[Response]]


class Batch:
    """The routes for whole recordings."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes = [
            Route("/v1/models", self._guarded(self._models)),
            Route("/v1/audio/transcriptions", self._guarded(self._transcriptions), methods=["POST"]),
            Route("/v1/audio/translations", self._guarded(self._translations), methods=["POST"]),
            Route("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        """With the key checked, and every refusal in OpenAI's form."""

        async def guarded(request: Request) -> Response:
            try:
                if not key_fits(offered_key(request.headers, request.query_params), self._service.options.api_keys):
                    raise ApiError(401, "The API key is missing or wrong.", code="invalid_api_key")
                return await handler(request)
            except ApiError as error:
                self._service.metrics.errors.labels(error.code or "bad_request").inc()
                return error.response()

        return guarded

    async def _models(self, request: Request) -> Response:
        self._check_ready()
        model = {"id": self._model, "object": "model", "created": 0, "owned_by": "streaming-asr"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _translations(self, request: Request) -> Response:
        raise ApiError(400, f"{self._model} transcribes; it does not translate.", code="unsupported")

    async def _transcriptions(self, request: Request) -> Response:
        self._check_ready()
        form = await self._form(request)
        with ExitStack() as stack:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streaming-asr-"))) / "recording"
            try:
                upload = form.get("file")
                if not isinstance(upload, UploadFile):
                    raise ApiError(400, "The form must hold the recording as `file`.", param="file")
                await asyncio.to_thread(_save, upload, path)
            finally:
                await form.close()
            style = _text(form, "response_format") or "json"
            if style not in FORMATS:
                raise ApiError(400, f"response_format must be one of {', '.join(FORMATS)}.", param="response_format")
            by_word = "word" in form.getlist("timestamp_granularities[]")
            options = self._options(_text(form, "language"), _text(form, "prompt") or "", by_word)
            if (_text(form, "stream") or "").lower() in ("true", "1"):
                return StreamingResponse(self._stream(stack.pop_all(), path, options), media_type="text/event-stream")
            finals = [final async for final in self._finals(path, options, request)]
        return _answer(finals, style, by_word)

    async def _stream(self, held: ExitStack, path: Path, options: SessionOptions) -> AsyncIterator[str]:
        """Server-sent events: a delta for each utterance as it is decoded, then the whole.

        Args:
            held: what is let go of at the end.
        """
        finals: list[Final] = []
        with held:
            try:
                async for final in self._finals(path, options):
                    delta = f" {final.text}" if finals else final.text
                    finals.append(final)
                    yield _event({"type": "transcript.text.delta", "delta": delta})
            except ApiError as error:
                yield _event({"type": "error", "error": {"message": str(error), "code": error.code}})
                return
        yield _event({"type": "transcript.text.done", "text": _joined(finals), "usage": _usage(finals)})
        yield "data: [DONE]\n\n"

    async def _chat(self, request: Request) -> Response:
        self._check_ready()
        chat = await self._chat_request(request)
        parts = [part for message in chat.messages if isinstance(message.content, list) for part in message.content]
        texts = [message.content for message in chat.messages if isinstance(message.content, str)]
        audio = [part for part in parts if part.audio_url or part.input_audio]
        if len(audio) != 1:
            raise ApiError(400, f"The messages hold {len(audio)} recordings; send one, as audio_url or input_audio.")
        if chat.stream:
            raise ApiError(400, "Streaming is not offered here; /v1/audio/transcriptions streams.", param="stream")
        context = " ".join([*texts, *(part.text for part in parts if part.type == "text")])
        options = self._options(chat.language, context, False)
        with tempfile.TemporaryDirectory(prefix="streaming-asr-") as folder:
            path = Path(folder) / "recording"
            await asyncio.to_thread(self._bring, audio[0], path)
            finals = [final async for final in self._finals(path, options, request)]
        return JSONResponse(
            {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": self._model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": self._raw(finals)},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            }
        )

    @property
    def _model(self) -> str:
        return self._service.recognizer.capabilities.model

    def _check_ready(self) -> None:
        if not self._service.ready:
            raise ApiError(503, f"The recognizer is {self._service.status}; try again shortly.", code="not_ready")

    def _options(self, language: str | None, context: str, word_times: bool) -> SessionOptions:
        try:
            return self._service.options.session.changed(
                language=language or self._service.options.session.language,
                context=context[:MAX_CONTEXT_CHARS],
                word_times=word_times,
            )
        except OptionError as error:
            raise ApiError(400, f"{error}.", param=error.option) from None

    async def _form(self, request: Request) -> FormData:
        """The form; its file goes to disk as it comes."""
        limit = self._service.options.max_upload_bytes
        try:
            return await Request(request.scope, _limited(request, limit)).form(max_files=1, max_fields=50)
        except ClientDisconnect:
            raise ApiError(400, "The upload broke off.") from None
        except HTTPException as error:
            raise ApiError(400, f"The form can't be read: {error.detail}") from None

    async def _chat_request(self, request: Request) -> Chat:
        limited = Request(request.scope, _limited(request, MAX_CHAT_BYTES))
        try:
            return msgspec.json.decode(await limited.body(), type=Chat)
        except msgspec.DecodeError as error:
            raise ApiError(400, f"The request can't be read: {error}.") from None
        except ClientDisconnect:
            raise ApiError(400, "The request broke off.") from None

    def _bring(self, part: Part, path: Path) -> None:
        """Write the audio of a chat's part to disk. Blocks."""
        options = self._service.options
        with path.open("wb") as into:
            if part.input_audio is not None:
                try:
                    into.write(base64.b64decode(part.input_audio.data, validate=True))
                except binascii.Error:
                    raise ApiError(400, "input_audio.data is not valid base64.", param="input_audio") from None
            elif part.audio_url is not None:
                try:
                    fetch(
                        part.audio_url.url,
                        into,
                        allow_private=options.allow_private_urls,
                        max_bytes=options.max_upload_bytes,
                        timeout_s=options.fetch_timeout_s,
                    )
                except FetchRefused as refused:
                    raise ApiError(400, f"audio_url: {refused}.", param="audio_url") from None

    async def _finals(
        self, path: Path, options: SessionOptions, request: Request | None = None
    ) -> AsyncIterator[Final]:
        """The utterances that say something; given up when the client of `request` hangs up."""
        try:
            async for event in stream_file(self._service, read_audio(path), options):
                if isinstance(event, Final) and event.text:
                    yield event
                if request is not None and await request.is_disconnected():
                    raise ApiError(400, "The client is gone.")
        except UnreadableMedia as error:
            raise ApiError(
                400, f"The recording can't be read: {error}".replace(str(path), "it"), param="file"
            ) from None
        except Refused as refused:
            failure = refused.failure
            status = 400 if failure.code == "bad_option" else 503
            raise ApiError(status, failure.message, code=failure.code) from None

    def _raw(self, finals: list[Final]) -> str:
        """As the model itself would write it: Qwen3-ASR names the language before the text."""
        text = " ".join(final.text for final in finals)
        if "qwen3-asr" not in self._model.lower():
            return text
        from streaming_asr.models.qwen3_languages import NAME_OF

        return f"language {NAME_OF.get(_language(finals) or '', 'None')}<asr_text>{text}"


def _limited(request: Request, limit: int) -> Callable[[], Awaitable[Any]]:
    """The request's `receive`, which refuses a body that grows too large."""
    taken = 0

    async def receive() -> Any:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise ApiError(413, f"The request is larger than the {limit} bytes allowed.", code="too_large")
        return message

    return receive


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


def _save(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as into:
        while chunk := upload.file.read(1 << 20):
            into.write(chunk)


def _language(finals: list[Final]) -> str | None:
    """The language of most of the speech."""
    spoken: dict[str, int] = {}
    for final in finals:
        if final.language is not None:
            spoken[final.language] = spoken.get(final.language, 0) + final.end_ms - final.start_ms
    return max(spoken, key=spoken.__getitem__, default=None)


def _joined(finals: list[Final]) -> str:
    return " ".join(final.text for final in finals)


def _usage(finals: list[Final]) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(finals[-1].end_ms / 1000) if finals else 0}


def _answer(finals: list[Final], style: str, by_word: bool) -> Response:
    if style == "text":
        return PlainTextResponse(_joined(finals) + "\n")
    if style in ("srt", "vtt"):
        return PlainTextResponse(written(finals, style))
    answer: dict[str, Any] = {"text": _joined(finals), "usage": _usage(finals)}
    if style == "verbose_json":
        answer |= {
            "task": "transcribe",
            "language": _language(finals),
            "duration": finals[-1].end_ms / 1000 if finals else 0.0,
            "segments": [_segment(number, final) for number, final in enumerate(finals)],
        }
        if by_word:
            answer["words"] = [
                {"word": word.text, "start": word.start_ms / 1000, "end": word.end_ms / 1000}
                for final in finals
                for word in final.words or ()
            ]
    return JSONResponse(answer)


def _segment(number: int, final: Final) -> dict[str, Any]:
    return {
        "id": number,
        "start": final.start_ms / 1000,
        "end": final.end_ms / 1000,
        "text": final.text,
        "avg_logprob": math.log(final.confidence) if final.confidence else None,
    }


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
