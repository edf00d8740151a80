"""Which path speaks which protocol."""

from __future__ import annotations

from collections.abc import Mapping

from streaming_asr.protocols.base import WireProtocol
from streaming_asr.protocols.deepgram.flux import FluxTranslator
from streaming_asr.protocols.deepgram.listen import DeepgramTranslator
from streaming_asr.protocols.deepgram.query import refusal_answer
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.protocols.openai.dashscope import DashScopeTranslator
from streaming_asr.protocols.openai.dialects import RealtimeTranslator

PROTOCOLS: Mapping[str, WireProtocol] = {
    "/v1/stream": WireProtocol(NativeTranslator),
    "/v1/realtime": WireProtocol(RealtimeTranslator),
    "/api-ws/v1/realtime": WireProtocol(DashScopeTranslator),
    "/v1/listen": WireProtocol(DeepgramTranslator, refusal_answer),
    "/v2/listen": WireProtocol(FluxTranslator, refusal_answer),
}
