"""Whole recordings over HTTP, in OpenAI's format, through the pipeline of live streams.

A recording is a session that sends faster than real time, so live sessions go before it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import IO, Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from streaming_asr.core.events import Event, Final, SessionWarning
from streaming_asr.core.options import MAX_CONTEXT_CHARS, RECORDED_ENDPOINT_MS, OptionError, SessionOptions
from streaming_asr.engine.file_stream import stream_file
from streaming_asr.engine.media.decoders import DecoderLost, MediaRefused, MediaTooLong, NoDecoder
from streaming_asr.protocols.failures import BROKEN, Failure, FailureKind
from streaming_asr.server.addresses import place
from streaming_asr.server.auth import Guard, Handler, address_of
from streaming_asr.server.observer import Observer
from streaming_asr.server.openai_http.answers import (
    DIARIZED,
    FORMATS,
    WORDY_FORMATS,
    ApiError,
    EventStream,
    Transcription,
    answer,
    chat_answer,
)
from streaming_asr.server.openai_http.bodies import ADDRESS_SHARE, Kept, bounded
from streaming_asr.server.openai_http.chat import MAX_CHAT_BYTES, Chat, Part, fetch_audio, read_chat, write_audio
from streaming_asr.server.openai_http.early_end import ClientGone, unless, until, watched
from streaming_asr.server.openai_http.long_strings import LongStrings
from streaming_asr.server.openai_http.recording_slots import MAX_WAITING, OwnTurn, RecordingSlots
from streaming_asr.server.service import Service
from streaming_asr.server.session_port import Refused
from streaming_asr.voice.detectors import make_detector, ungated

logger = logging.getLogger(__name__)


class Recordings:
    """The routes for whole recordings."""

    def __init__(self, service: Service) -> None:
        self._service = service
        options = service.options
        self._slots = RecordingSlots(options.max_recordings)
        kept_bytes = max(options.max_kept_bytes, options.max_upload_bytes)
        self._kept = Kept(kept_bytes, max(int(kept_bytes * ADDRESS_SHARE), options.max_upload_bytes))
        self._fetching = ThreadPoolExecutor(options.max_recordings + MAX_WAITING, "fetch a recording")
        """A thread for each request that may fetch: those of the event loop are few, and others need them."""
        self._open: Counter[asyncio.Future[None]] = Counter()
        """What ends each request, once an exception is set; counted by the tasks that still work on it."""
        self._none_open = asyncio.Event()
        self._none_open.set()

    @property
    def open(self) -> int:
        """Requests that have not been answered."""
        return len(self._open)

    async def all_done(self) -> None:
        """Return once every request has been answered."""
        await self._none_open.wait()

    def end_all(self, failure: Failure) -> None:
        """End all requests; their clients are sent the failure."""
        for end in list(self._open):
            if not end.done():
                end.set_exception(ApiError.of(failure.kind, failure.message))

    @contextmanager
    def _counted(self, end: asyncio.Future[None]) -> Iterator[None]:
        self._open[end] += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._open[end] -= 1
            if not self._open[end]:
                del self._open[end]
                end.cancel()
            if not self._open:
                self._none_open.set()

    def routes(self, guard: Guard) -> list[Route]:
        """The routes, made by the guard, with every error in OpenAI's form."""

        def route(path: str, handler: Handler, *methods: str) -> Route:
            return guard.route(path, self._with_errors(handler), methods=methods, deny=self._denied)

        return [
            route("/v1/models", self._models, "GET"),
            route("/v1/audio/transcriptions", self._transcriptions, "POST"),
            route("/v1/audio/translations", self._translations, "POST"),
            route("/v1/chat/completions", self._chat, "POST"),
        ]

    def _with_errors(self, handler: Handler) -> Handler:
        """The handler, with its `ApiError`s as responses."""

        async def with_errors(request: Request) -> Response:
            request.state.end = end = asyncio.get_running_loop().create_future()
            with self._counted(end):
                try:
                    return await unless(end, handler(request))
                except Exception as error:
                    return self._failed(_api_error(error))

        return with_errors

    def _denied(self, refusal: Failure) -> Response:
        kind = FailureKind.INVALID_API_KEY if refusal.kind is FailureKind.UNAUTHORIZED else refusal.kind
        return self._failed(ApiError.of(kind, refusal.message))

    def _failed(self, error: ApiError) -> Response:
        self._count(error)
        return error.response()

    def _count(self, error: ApiError) -> None:
        self._service.metrics.errors.labels(error.code or "bad_request").inc()

    async def _models(self, request: Request) -> Response:
        self._check_ready()
        model = {"id": self._model, "object": "model", "created": 0, "owned_by": "streaming-asr"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _translations(self, request: Request) -> Response:
        raise ApiError.of(FailureKind.UNSUPPORTED, f"{self._model} transcribes; it does not translate.")

    async def _transcriptions(self, request: Request) -> Response:
        self._check_ready()
        async with AsyncExitStack() as stack:
            client = place(address_of(request))
            stack.enter_context(self._slots.place(client))
            form = await self._form(request, stack.enter_context(self._kept.share(client)))
            stack.push_async_callback(form.close)
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise ApiError(400, "The form must have the recording as `file`.", param="file")
            recording = upload.file
            self._check_model(_text(form, "model"))
            style = _text(form, "response_format") or "json"
            if style not in FORMATS:
                raise ApiError(400, f"response_format must be one of {', '.join(FORMATS)}.", param="response_format")
            by_word = "word" in form.getlist("timestamp_granularities[]")
            word_times = by_word or style in WORDY_FORMATS
            options = self._options(
                _text(form, "language"),
                _text(form, "prompt") or "",
                _text(form, "vad"),
                _number(form, "vad_threshold"),
                word_times=word_times,
                speakers=style == DIARIZED or _flag(form, "speakers") or self._service.options.session.speakers,
                **_text_options(form),
            )
            stack.enter_context(watched(request))
            own_turn = await stack.enter_async_context(self._slots.slot(client))
            self._service.decoders.prepare()
            if _flag(form, "stream"):
                stack.enter_context(self._counted(request.state.end))
                sent = self._stream(stack.pop_all(), recording, options, request, own_turn, diarized=style == DIARIZED)
                return StreamingResponse(sent, media_type="text/event-stream")
            transcription = await self._transcribed(recording, options, request, own_turn)
        return answer(transcription, style, by_word=by_word)

    async def _stream(
        self,
        held: AsyncExitStack,
        recording: IO[bytes],
        options: SessionOptions,
        request: Request,
        own_turn: OwnTurn,
        *,
        diarized: bool,
    ) -> AsyncIterator[str]:
        """Server-sent events: a delta for each utterance as it is decoded, then the whole.

        Args:
            held: what is released at the end.
            diarized: whether segments with their speakers are sent, too.
        """
        transcription, stream = Transcription(), EventStream(self._model)
        async with held:
            try:
                async with self._events(recording, options, request, own_turn) as events:
                    async for event in events:
                        if delta := transcription.take(event):
                            yield stream.delta(delta)
                            if diarized and isinstance(event, Final):
                                yield stream.segments(event)
                        elif isinstance(event, SessionWarning):
                            yield stream.warning(event)
            except ClientGone:
                return
            except Exception as error:
                sent = _api_error(error)
                self._count(sent)
                yield stream.failed(sent)
                return
        yield stream.done(transcription)

    async def _chat(self, request: Request) -> Response:
        self._check_ready()
        client = place(address_of(request))
        with self._slots.place(client), self._kept.share(client) as keep, tempfile.TemporaryFile() as recording:
            options, elsewhere = await self._read_chat(request, recording, keep)
            with watched(request):
                if elsewhere is not None:
                    # Before it has a slot, which a slow host would keep from all others.
                    await fetch_audio(elsewhere, recording, self._service.options, self._fetching, keep)
                async with self._slots.slot(client) as own_turn:
                    self._service.decoders.prepare()
                    recording.seek(0)
                    transcription = await self._transcribed(recording, options, request, own_turn)
        raw_answer = self._service.recognizer.capabilities.raw_answer
        return chat_answer(self._model, raw_answer(transcription.text, transcription.language), transcription)

    async def _read_chat(
        self, request: Request, into: IO[bytes], keep: Callable[[int], None]
    ) -> tuple[SessionOptions, Part | None]:
        """Read a chat, which is not kept: audio that is in it is written to a file.

        Returns:
            What it asks for, and its part that names audio elsewhere.
        """
        most = self._service.options.max_upload_bytes
        with self._kept.share(place(address_of(request))) as add, LongStrings() as strings:
            chat = await self._chat_request(request, strings, add)
            self._check_model(chat.model)
            part = chat.recording()
            options = self._options(chat.language, chat.context(), chat.vad, chat.vad_threshold)
            if (elsewhere := part.elsewhere()) is not None:
                return options, elsewhere
            await asyncio.to_thread(write_audio, part, strings, into, most)
            keep(into.tell())
            return options, None

    @property
    def _model(self) -> str:
        return self._service.recognizer.capabilities.model

    def _check_ready(self) -> None:
        if not self._service.ready:
            raise ApiError.of(FailureKind.NOT_READY, f"The recognizer is {self._service.status}; try again shortly.")

    def _check_model(self, name: str | None) -> None:
        models = self._service.models
        if name and not models.takes(name):
            raise ApiError.of(FailureKind.MODEL_NOT_FOUND, models.unknown(name), param="model")

    def _options(
        self,
        language: str | None,
        context: str,
        vad: str | None,
        vad_threshold: float | None,
        *,
        word_times: bool = False,
        **texts: Any,
    ) -> SessionOptions:
        """The options of a recording, as far as its request gives them."""
        defaults = self._service.options.session
        try:
            options = defaults.changed(
                language=language or defaults.language,
                endpoint_ms=None if defaults.endpoint_ms is None else max(defaults.endpoint_ms, RECORDED_ENDPOINT_MS),
                context=context[:MAX_CONTEXT_CHARS],
                vad=vad or ungated(defaults.vad),
                vad_threshold=defaults.vad_threshold if vad_threshold is None else vad_threshold,
                word_times=word_times,
                **texts,
            )
            make_detector(options)
            self._service.make_annotators(options, self._service.recognizer.capabilities)
            return options
        except OptionError as error:
            raise ApiError(400, f"{error}.", param=error.option) from None

    async def _form(self, request: Request, keep: Callable[[int], None]) -> FormData:
        """Read the form; its file is written to disk as it arrives."""
        options = self._service.options
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            # Another form has no file, and takes seconds of the event loop to parse.
            raise ApiError(400, f"The request must be multipart/form-data; its Content-Type is {kind!r}.")
        receive = bounded(request.receive, options.max_upload_bytes, options.upload_timeout_s, keep)
        try:
            return await Request(request.scope, receive).form(max_files=1, max_fields=50)
        except ClientDisconnect:
            raise ApiError(400, "The upload broke off.") from None
        except HTTPException as error:
            raise ApiError(400, f"The form can't be read: {error.detail}") from None

    async def _chat_request(self, request: Request, strings: LongStrings, keep: Callable[[int], None]) -> Chat:
        timeout_s = self._service.options.upload_timeout_s
        receive = bounded(request.receive, MAX_CHAT_BYTES, timeout_s, keep)
        try:
            return await read_chat(Request(request.scope, receive).stream(), strings)
        except ClientDisconnect:
            raise ApiError(400, "The request broke off.") from None

    async def _transcribed(
        self, recording: IO[bytes], options: SessionOptions, request: Request, own_turn: OwnTurn
    ) -> Transcription:
        """Transcribe the whole; cancelled when the client disconnects."""
        transcription = Transcription()
        async with self._events(recording, options, request, own_turn) as events:
            async for event in events:
                transcription.take(event)
        return transcription

    @asynccontextmanager
    async def _events(
        self, recording: IO[bytes], options: SessionOptions, request: Request, own_turn: OwnTurn
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a recording, up to its end, the client's, or the server's."""
        end: asyncio.Future[None] = request.state.end
        observer = self._service.recording_observer(request.url.path, request.headers)
        events = self._decoded(recording, options, observer, own_turn)
        try:
            yield until(end, events)
        except ApiError as error:
            observer.failed(error.code or "bad_request")
            raise
        finally:
            await events.aclose()
            observer.closed()
            self._service.decoders.prepare_soon()

    async def _decoded(
        self, recording: IO[bytes], options: SessionOptions, observer: Observer, own_turn: OwnTurn
    ) -> AsyncGenerator[Event, None]:
        async def pace(cost_s: float) -> None:
            await asyncio.sleep(self._service.recordings_rest_s(cost_s))
            await own_turn()

        try:
            with _descriptor(recording) as descriptor:
                async with self._service.decoders.open(descriptor) as decoded:
                    # For the next one: beside a busy recognizer, a child takes seconds to start.
                    self._service.decoders.prepare_soon()
                    async for event in stream_file(self._service, decoded.read(), options, observer, pace):
                        if isinstance(event, SessionWarning):
                            if event.repair:
                                self._service.metrics.repairs.labels(event.code).inc()
                            logger.info("A recording: %s (%s)", event.message, event.code)
                        yield event
        except MediaTooLong as error:
            raise ApiError.of(FailureKind.TOO_LARGE, f"The recording can't be read: {error}.", param="file") from None
        except NoDecoder as error:
            logger.error("A recording: %s", error)
            message = "The server can't start another decoder of recordings; try again later."
            raise ApiError.of(FailureKind.BUSY, message) from None
        except MediaRefused as error:
            if isinstance(error, DecoderLost):
                self._service.metrics.decoders_lost.labels("recording").inc()
            raise ApiError(400, f"The recording can't be read: {error}.", param="file") from None
        except Refused as refused:
            failure = refused.failure
            raise ApiError.of(failure.kind, failure.message) from None


@contextmanager
def _descriptor(recording: IO[bytes]) -> Iterator[int]:
    """A descriptor of the recording, at its beginning. One that is in memory is not written to disk for that."""
    if getattr(recording, "_rolled", True) or not hasattr(os, "memfd_create"):
        recording.seek(0)
        descriptor = recording.fileno()
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
        return
    descriptor = os.memfd_create("recording", os.MFD_CLOEXEC)
    try:
        recording.seek(0)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(recording.read())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _api_error(error: Exception) -> ApiError:
    """What the client is sent for an exception. Its traceback is dropped: one of the frames in it has the exception, so
    that what all of them hold would stay in memory until Python looks for such cycles.
    """
    found = _what_failed(error)
    error.__traceback__ = None
    return found


def _what_failed(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ClientGone | ClientDisconnect):
        return ApiError(499, "The client has disconnected.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        logger.error("No room to keep a recording: %s", error)
        return ApiError.of(FailureKind.INTERNAL, "The server has no room to keep the recording; try again later.")
    logger.error("A request failed", exc_info=error)
    return ApiError.of(BROKEN.kind, BROKEN.message)


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


def _text_options(form: FormData) -> dict[str, Any]:
    """The options of a session that change its text, where the form gives them."""
    options: dict[str, Any] = {}
    for name in ("itn", "profanity_filter"):
        if value := _text(form, name):
            if value.lower() not in ("true", "false"):
                raise ApiError(400, f"{name} is neither true nor false: {value!r}.", param=name)
            options[name] = value.lower() == "true"
    for name in ("replace", "redact"):
        values = [value for field in (name, f"{name}[]") for value in form.getlist(field) if isinstance(value, str)]
        if name == "redact":
            values = [part.strip() for value in values for part in value.split(",")]
        if given := tuple(value for value in values if value):
            options[name] = given
    return options


def _flag(form: FormData, name: str) -> bool:
    return (_text(form, name) or "").lower() in ("true", "1")


def _number(form: FormData, name: str) -> float | None:
    text = _text(form, name)
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ApiError(400, f"{name} is not a number: {text!r}.", param=name) from None
