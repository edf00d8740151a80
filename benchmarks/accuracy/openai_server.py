"""Any server that speaks OpenAI's HTTP interface: one recording in, its text out."""

from __future__ import annotations

import base64
import enum
import re
from dataclasses import dataclass
from typing import Any

import httpx

_RAW = re.compile(r"\s*language\s+([^<]{1,40})<asr_text>\s*")
"""What Qwen3-ASR writes before the text, or before each piece of a long one."""
_SHOWN_CHARS = 300
"""Of an error that is not JSON."""
_AT_ONCE = 256


class Request(str, enum.Enum):
    """How the recording is sent."""

    TRANSCRIPTIONS = "transcriptions"
    """As a file to `/v1/audio/transcriptions`."""
    AUDIO_URL = "audio_url"
    """Inside a message to `/v1/chat/completions`, as a data URL."""
    INPUT_AUDIO = "input_audio"
    """There too, as base64."""


class RequestFailed(Exception):
    """No text came. The message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    language: str | None = None
    """As the model names it, where it does."""


class OpenAIServer:
    """Client of a server with OpenAI's HTTP API.

    Args:
        url: of the server, with or without `/v1`.
        timeout_s: for one recording.
    """

    def __init__(
        self, url: str, *, model: str | None = None, api_key: str | None = None, timeout_s: float = 120.0
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            headers=headers, timeout=timeout_s, limits=httpx.Limits(max_connections=_AT_ONCE)
        )

    async def find_model(self) -> str:
        """The model that is asked for: the one given, else the first that the server offers.

        Raises:
            RequestFailed: the server can't be reached, or names no model.
        """
        reply = await self._ask("GET", "/v1/models")
        if self.model is None:
            try:
                self.model = str(reply["data"][0]["id"])
            except (KeyError, IndexError, TypeError):
                raise RequestFailed(f"{self.url} names no model; give it by --model") from None
        return self.model

    async def transcribe(self, wav: bytes, request: Request, *, language: str | None = None) -> Answer:
        """Transcribe one recording.

        Args:
            wav: the file.
            language: ISO 639-1; left out of chat requests, which have no field for it.

        Raises:
            RequestFailed: an error, no answer in time, or one without a text.
        """
        if request is Request.TRANSCRIPTIONS:
            form = {"response_format": "json", **({"model": self.model} if self.model else {})}
            form |= {"language": language} if language else {}
            files = {"file": ("audio.wav", wav, "audio/wav")}
            reply = await self._ask("POST", "/v1/audio/transcriptions", data=form, files=files)
            text = reply.get("text") if isinstance(reply, dict) else None
        else:
            body: dict[str, Any] = {"messages": [{"role": "user", "content": [_part(wav, request)]}], "temperature": 0}
            body |= {"model": self.model} if self.model else {}
            reply = await self._ask("POST", "/v1/chat/completions", json=body)
            text = _content(reply)
        if not isinstance(text, str):
            raise RequestFailed(f"the answer has no text: {str(reply)[:_SHOWN_CHARS]}")
        return parsed(text)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = await self._client.request(method, self.url + path, **content)
            if answer.is_error:
                raise RequestFailed(f"HTTP {answer.status_code}: {_reason(answer)}")
            return answer.json()
        except httpx.TimeoutException:
            raise RequestFailed(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RequestFailed(f"{self.url} can't be reached: {error or type(error).__name__}") from None
        except ValueError:
            raise RequestFailed(f"the answer is not JSON: {answer.text[:_SHOWN_CHARS]!r}") from None


def parsed(text: str) -> Answer:
    """Take apart what Qwen3-ASR writes, `language English<asr_text>And so`; other texts stand as they are."""
    named = [name.strip() for name in _RAW.findall(text)]
    language = next((name for name in named if name != "None"), None)
    return Answer(_RAW.sub(" ", text).strip(), language)


def _part(wav: bytes, request: Request) -> dict[str, Any]:
    data = base64.b64encode(wav).decode()
    if request is Request.AUDIO_URL:
        return {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def _content(reply: Any) -> Any:
    try:
        return reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None


def _reason(answer: httpx.Response) -> str:
    """What the server says of its error, in OpenAI's form or any other."""
    try:
        reply = answer.json()["error"]
        return str(reply["message"] if isinstance(reply, dict) else reply)
    except (ValueError, KeyError, TypeError):
        return answer.text[:_SHOWN_CHARS] or answer.reason_phrase
