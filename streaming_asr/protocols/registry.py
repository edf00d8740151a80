"""Which path speaks which protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streaming_asr.protocols.base import Request, Translator
from streaming_asr.protocols.dashscope import DashScopeTranslator
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.protocols.realtime import RealtimeTranslator
from streaming_asr.settings import SessionOptions

PROTOCOLS: Mapping[str, Callable[[Request, SessionOptions], Translator]] = {
    "/v1/stream": NativeTranslator,
    "/v1/realtime": RealtimeTranslator,
    "/api-ws/v1/realtime": DashScopeTranslator,
}
