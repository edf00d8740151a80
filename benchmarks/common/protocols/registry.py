"""The protocols by name, and what each makes of the options of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit, urlunsplit

from benchmarks.common.protocols import deepgram, deepgram_flux, openai_realtime, whisper_live
from benchmarks.common.protocols.connection import WebSocketAdapter, with_query
from benchmarks.common.protocols.deepgram import DeepgramTalk
from benchmarks.common.protocols.deepgram_flux import FluxTalk
from benchmarks.common.protocols.native import NativeTalk
from benchmarks.common.protocols.openai_realtime import OpenAiTalk
from benchmarks.common.protocols.vllm_realtime import VllmTalk
from benchmarks.common.protocols.whisper_live import WhisperLiveTalk
from benchmarks.common.protocols.whisper_live_kit import WhisperLiveKitTalk

_RATE = 16_000


class BadTarget(ValueError):
    """What was said of the server will not do. The message says what would."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server to measure, as a user names it."""

    url: str
    """`ws://` or `wss://`; without a path, the protocol's own is added."""
    model: str = ""
    """Where the protocol names one; empty takes the protocol's usual one."""
    api_key: str = field(default="", repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    """More for the query of the address: options of the server, such as `endpoint_ms` or `endpointing`."""


def _native(target: Target, *, stable_only: bool = False) -> WebSocketAdapter:
    return WebSocketAdapter(
        "native-stable" if stable_only else "native",
        _RATE,
        _address(target, "/v1/stream"),
        lambda language: NativeTalk(stable_only=stable_only),
        _bearer(target),
        lambda language: {"encoding": "s16le", "sample_rate": str(_RATE), **_language(language)},
    )


def _openai(target: Target) -> WebSocketAdapter:
    model = target.model or openai_realtime.MODEL
    return WebSocketAdapter(
        "openai",
        openai_realtime.SAMPLE_RATE,
        _address(target, "/v1/realtime"),
        lambda language: OpenAiTalk(model, language),
        _bearer(target),
        lambda language: {"intent": "transcription"},
    )


def _deepgram(target: Target) -> WebSocketAdapter:
    return WebSocketAdapter(
        "deepgram",
        _RATE,
        _address(target, "/v1/listen"),
        lambda language: DeepgramTalk(),
        {"Authorization": f"Token {target.api_key}"} if target.api_key else {},
        lambda language: {
            "model": target.model or deepgram.MODEL,
            "encoding": "linear16",
            "sample_rate": str(_RATE),
            "channels": "1",
            "interim_results": "true",
            "punctuate": "true",
            **_language(language),
        },
    )


def _flux(target: Target) -> WebSocketAdapter:
    return WebSocketAdapter(
        "flux",
        _RATE,
        _address(target, "/v2/listen"),
        lambda language: FluxTalk(),
        {"Authorization": f"Token {target.api_key}"} if target.api_key else {},
        lambda language: {
            "model": target.model or deepgram_flux.MODEL,
            "encoding": "linear16",
            "sample_rate": str(_RATE),
        },
    )


def _vllm(target: Target) -> WebSocketAdapter:
    if not target.model:
        raise BadTarget("vLLM's realtime protocol names the server's model: give it with --model")
    return WebSocketAdapter(
        "vllm", _RATE, _address(target, "/v1/realtime"), lambda language: VllmTalk(target.model), _bearer(target)
    )


def _whisper_live_kit(target: Target) -> WebSocketAdapter:
    return WebSocketAdapter(
        "whisperlivekit",
        _RATE,
        _address(target, "/asr"),
        lambda language: WhisperLiveKitTalk(),
        _bearer(target),
        _language,
    )


def _whisper_live(target: Target) -> WebSocketAdapter:
    model = target.model or whisper_live.MODEL
    return WebSocketAdapter(
        "whisperlive", _RATE, _address(target, "/"), lambda language: WhisperLiveTalk(model, language)
    )


PROTOCOLS: Mapping[str, Callable[[Target], WebSocketAdapter]] = {
    "native": _native,
    "native-stable": partial(_native, stable_only=True),
    "openai": _openai,
    "deepgram": _deepgram,
    "flux": _flux,
    "vllm": _vllm,
    "whisperlivekit": _whisper_live_kit,
    "whisperlive": _whisper_live,
}


def make_adapter(protocol: str, target: Target) -> WebSocketAdapter:
    """An adapter for a protocol of `PROTOCOLS`.

    Raises:
        BadTarget: the address is none of a WebSocket, or the protocol needs more.
    """
    return PROTOCOLS[protocol](target)


def _address(target: Target, path: str) -> str:
    parts = urlsplit(target.url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise BadTarget(f"{target.url!r} is not an address such as ws://localhost:8000")
    parts = parts._replace(scheme=scheme, path=parts.path if parts.path not in ("", "/") else path)
    return with_query(urlunsplit(parts), target.query)


def _language(language: str) -> dict[str, str]:
    return {"language": language} if language else {}


def _bearer(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
