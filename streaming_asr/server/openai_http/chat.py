"""Chat requests that have a recording: what is used of them, and how their audio is written to a file."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import IO

import msgspec

from streaming_asr.protocols.base64_audio import decode_base64_pieces, decode_data_url_pieces
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.openai_http.answers import ApiError
from streaming_asr.server.openai_http.fetch import FetchRefused, Line, fetch, is_data_url
from streaming_asr.server.openai_http.long_strings import LongStrings, TooMuchJson
from streaming_asr.server.options import ServerOptions

MAX_CHAT_BYTES = 64 * 2**20
"""Of a chat request, whose audio may be inside; longer recordings are uploaded or named by URL."""
MAX_URL_CHARS = 16_384
"""Of the URL of a recording."""


class AudioPart(msgspec.Struct):
    """Audio inside a chat request, base64."""

    data: str
    format: str = "wav"


class AudioUrl(msgspec.Struct):
    url: str


class Part(msgspec.Struct):
    """Part of a message's content: audio, or text, which is context. Others are ignored."""

    type: str
    text: str = ""
    audio_url: AudioUrl | None = None
    input_audio: AudioPart | None = None

    def elsewhere(self) -> Part | None:
        """The part alone, if its audio has to be fetched; None if the audio is in it.

        Raises:
            ApiError: the URL is too long.
        """
        if self.input_audio is not None or self.audio_url is None or is_data_url(self.audio_url.url):
            return None
        if len(self.audio_url.url) > MAX_URL_CHARS:
            raise ApiError(400, f"audio_url: more than {MAX_URL_CHARS} characters.", param="audio_url")
        return Part("audio_url", audio_url=self.audio_url)


class Message(msgspec.Struct):
    role: str
    content: str | list[Part]


class Chat(msgspec.Struct):
    """The fields of a chat request that are used; others are ignored."""

    messages: list[Message]
    model: str = ""
    stream: bool = False
    language: str | None = None
    vad: str | None = None
    vad_threshold: float | None = None

    def recording(self) -> Part:
        """The one part that has audio.

        Raises:
            ApiError: there is not exactly one, or the answer is to be streamed.
        """
        audio = [part for part in self._parts() if part.audio_url or part.input_audio]
        if len(audio) != 1:
            raise ApiError(400, f"The messages have {len(audio)} recordings; send one, as audio_url or input_audio.")
        if self.stream:
            raise ApiError(400, "Streaming is not offered here; /v1/audio/transcriptions streams.", param="stream")
        return audio[0]

    def context(self) -> str:
        """All text of the messages."""
        texts = [message.content for message in self.messages if isinstance(message.content, str)]
        return " ".join([*texts, *(part.text for part in self._parts() if part.type == "text")])

    def _parts(self) -> list[Part]:
        return [part for message in self.messages if isinstance(message.content, list) for part in message.content]


async def read_chat(body: AsyncIterator[bytes], strings: LongStrings) -> Chat:
    """Read a chat request as it arrives.

    Args:
        strings: takes the rest of long strings, such as the audio.

    Raises:
        ApiError: the body is not JSON, or not a chat request.
    """
    try:
        async for data in body:
            strings.feed(data)
            if strings.full:
                await asyncio.to_thread(strings.write)
        await asyncio.to_thread(strings.write)
        return msgspec.json.decode(strings.json, type=Chat, strict=False)
    except TooMuchJson as error:
        raise ApiError.of(FailureKind.TOO_LARGE, f"The request can't be read: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The request can't be read: {error}.") from None


def write_audio(part: Part, strings: LongStrings, into: IO[bytes], max_bytes: int) -> None:
    """Write the audio that is inside a part to a file. Blocks.

    Args:
        strings: of its chat.

    Raises:
        ApiError: it is not audio in base64, or too much.
    """
    param = "audio_url" if part.input_audio is None else "input_audio"
    size = 0
    try:
        for data in _audio_inside(part, strings):
            size += len(data)
            if size > max_bytes:
                reason = f"The recording is larger than the {max_bytes} bytes allowed."
                raise ApiError.of(FailureKind.TOO_LARGE, reason, param=param)
            into.write(data)
    except ValueError as error:
        raise ApiError.of(FailureKind.INVALID_AUDIO, f"{error}.", param=param) from None


def _audio_inside(part: Part, strings: LongStrings) -> Iterator[bytes]:
    if part.input_audio is not None:
        return decode_base64_pieces(strings.pieces(part.input_audio.data))
    assert part.audio_url is not None
    return decode_data_url_pieces(strings.pieces(part.audio_url.url.strip()))


async def fetch_audio(
    part: Part, into: IO[bytes], options: ServerOptions, threads: Executor, add: Callable[[int], None]
) -> None:
    """Fetch the audio that a part names, into a file; cut off when this is cancelled.

    Args:
        threads: one of them waits for the host.
        add: see `fetch`.

    Raises:
        ApiError: the URL is refused or can't be fetched.
    """
    assert part.audio_url is not None
    line = Line()
    fetching = functools.partial(
        fetch,
        part.audio_url.url,
        into,
        allow_private=options.allow_private_urls,
        max_bytes=options.max_upload_bytes,
        timeout_s=options.fetch_timeout_s,
        line=line,
        add=add,
    )
    try:
        await asyncio.get_running_loop().run_in_executor(threads, fetching)
    except FetchRefused as refused:
        raise ApiError(400, f"audio_url: {refused}.", param="audio_url") from None
    finally:
        line.cut()
