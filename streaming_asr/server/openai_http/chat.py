"""Chat requests that have a recording: what is used of them, and how their audio is written to a file."""

from __future__ import annotations

import asyncio
from typing import IO

import msgspec

from streaming_asr.protocols.base64_audio import decode_base64
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.openai_http.answers import ApiError
from streaming_asr.server.openai_http.fetch import BadAudio, FetchRefused, Line, fetch, is_data_url
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


def parse_chat(body: bytes) -> Chat:
    """The chat request in a body.

    Raises:
        ApiError: the body is not JSON, or not a chat request.
    """
    try:
        return msgspec.json.decode(body, type=Chat, strict=False)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ApiError(400, f"The request can't be read: {error}.") from None


async def fetch_audio(part: Part, into: IO[bytes], options: ServerOptions) -> None:
    """Fetch the audio that a part names; cut off when this is cancelled.

    Raises:
        ApiError: as `write_audio`.
    """
    line = Line()
    try:
        await asyncio.to_thread(write_audio, part, into, options, line)
    finally:
        line.cut()


def write_audio(part: Part, into: IO[bytes], options: ServerOptions, line: Line | None = None) -> None:
    """Write the audio of a part to a file, from inside the part or from its URL. Blocks.

    Args:
        line: through which another thread can cut off the fetch.

    Raises:
        ApiError: it is not audio in base64, or the URL is refused or can't be fetched.
    """
    if part.input_audio is not None:
        try:
            into.write(decode_base64(part.input_audio.data))
        except ValueError as error:
            raise ApiError.of(FailureKind.INVALID_AUDIO, f"{error}.", param="input_audio") from None
    elif part.audio_url is not None:
        try:
            fetch(
                part.audio_url.url,
                into,
                allow_private=options.allow_private_urls,
                max_bytes=options.max_upload_bytes,
                timeout_s=options.fetch_timeout_s,
                line=line,
            )
        except BadAudio as bad:
            raise ApiError.of(FailureKind.INVALID_AUDIO, f"{bad}.", param="audio_url") from None
        except FetchRefused as refused:
            raise ApiError(400, f"audio_url: {refused}.", param="audio_url") from None
