"""Which path speaks which protocol."""

from __future__ import annotations

from collections.abc import Mapping

from streaming_asr.protocols.base import WireProtocol
from streaming_asr.protocols.dashscope import DashScopeTranslator
from streaming_asr.protocols.deepgram import DeepgramTranslator
from streaming_asr.protocols.deepgram_flux import FluxTranslator
from streaming_asr.protocols.deepgram_query import refused
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.protocols.realtime import RealtimeTranslator

PROTOCOLS: Mapping[str, WireProtocol] = {
    "/v1/stream": WireProtocol(NativeTranslator),
    "/v1/realtime": WireProtocol(RealtimeTranslator),
    "/api-ws/v1/realtime": WireProtocol(DashScopeTranslator),
    "/v1/listen": WireProtocol(DeepgramTranslator, refused),
    "/v2/listen": WireProtocol(FluxTranslator, refused),
}
