"""A running server of this project: streams over its own protocol, whole files over its OpenAI interface."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import soundfile

from benchmarks.accuracy.in_process import CHUNK_S, TRAILING_S
from benchmarks.accuracy.openai_server import OpenAIServer, Request, RequestFailed
from benchmarks.accuracy.sources import NoTranscript, OnProgress, SourceUnavailable, Transcript
from clients.errors import StreamError
from clients.events import Final, Partial
from clients.stream import TranscriptionStream, open_stream
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

_SILENT_S = 30.0
"""A stream is given up when its server sends nothing for this long after the end of the audio."""


class Served:
    """A server as a source of transcripts.

    Args:
        url: of the stream, or of the server alone.
        options: of the sessions, by name.
        real_time: whether audio is sent at the pace of speech, with partials; else as fast as it is taken, without.
        at_once: streams.
        pid: of the server's process where it runs on this machine, to watch its memory.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        *,
        api_key: str | None,
        real_time: bool,
        at_once: int,
        pid: int | None = None,
    ) -> None:
        self._url = url
        self._options = options
        self._api_key = api_key
        self._pid = pid
        self.has_partials = self.has_lags = real_time
        self.model = ""
        self.languages: tuple[str, ...] = ()
        self.at_once = at_once
        self._http = OpenAIServer(_http_address(url), api_key=api_key)

    async def start(self) -> None:
        try:
            self.memory_bytes()
            async with open_stream(self._url, self._session_options(None), api_key=self._api_key) as stream:
                self.model, self.languages = stream.ready.model, stream.ready.languages
                await stream.stop()
        except (StreamError, psutil.Error) as error:
            raise SourceUnavailable(str(error)) from None

    async def offline(self, audio: Audio, language: str | None) -> str:
        try:
            return (await self._http.transcribe(wav(audio), Request.TRANSCRIPTIONS, language=language)).text
        except RequestFailed as error:
            raise NoTranscript(str(error)) from None

    async def stream(self, audio: Audio, language: str | None, on_progress: OnProgress) -> Transcript:
        transcript = Transcript()
        loop = asyncio.get_running_loop()
        try:
            async with open_stream(self._url, self._session_options(language), api_key=self._api_key) as stream:
                began = loop.time()
                sending = asyncio.create_task(self._send(stream, audio, began, on_progress))
                try:
                    await self._listen(stream, sending, began, transcript)
                    await sending
                finally:
                    sending.cancel()
        except StreamError as error:
            raise NoTranscript(str(error)) from None
        except asyncio.TimeoutError:
            raise NoTranscript(f"nothing came for {_SILENT_S:g} s after the end of the audio") from None
        return transcript

    def memory_bytes(self) -> int:
        return int(psutil.Process(self._pid).memory_info().rss) if self._pid else 0

    async def close(self) -> None:
        await self._http.close()

    def _session_options(self, language: str | None) -> dict[str, Any]:
        forced = {"language": language} if language else {}
        return {"sample_rate": SAMPLE_RATE, "partials": self.has_partials, **forced, **self._options}

    async def _listen(
        self, stream: TranscriptionStream, sending: asyncio.Task[None], began: float, transcript: Transcript
    ) -> None:
        loop = asyncio.get_running_loop()
        events = stream.__aiter__()
        while True:
            try:
                event = await asyncio.wait_for(anext(events), _SILENT_S)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError:
                if sending.done():
                    raise
                continue
            if isinstance(event, Partial):
                text = event.stable + event.tentative
                transcript.show_partial(event.utterance, text, speculative=event.speculative)
            elif isinstance(event, Final):
                at_s = loop.time() - began
                transcript.show_final(event.utterance, event.text, end_s=event.time_ms / 1000, at_s=at_s)

    async def _send(self, stream: TranscriptionStream, audio: Audio, began: float, on_progress: OnProgress) -> None:
        samples = np.concatenate([audio, np.zeros(int(TRAILING_S * SAMPLE_RATE), np.float32)])
        pcm = _pcm(samples).tobytes()
        size = 2 * int(CHUNK_S * SAMPLE_RATE)
        loop = asyncio.get_running_loop()
        for number, start in enumerate(range(0, len(pcm), size), 1):
            if self.has_partials:
                await asyncio.sleep(max(0.0, began + number * CHUNK_S - loop.time()))
            await stream.send(pcm[start : start + size])
            on_progress(number * CHUNK_S)
        await stream.stop()


def wav(audio: Audio) -> bytes:
    """As a 16 bit WAV file."""
    file = io.BytesIO()
    soundfile.write(file, _pcm(audio), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _pcm(audio: Audio) -> np.ndarray[Any, np.dtype[np.int16]]:
    return (audio.clip(-1, 1) * 32767).astype("<i2")


def _http_address(url: str) -> str:
    """The server's own address, whatever a stream's path and scheme are."""
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}"
