"""`/v1/realtime`, where OpenAI's clients and vLLM's both connect: the first message distinguishes them."""

from __future__ import annotations

from collections.abc import Sequence

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Command, Handshake, Opened, Translator
from streaming_asr.protocols.failures import Failure
from streaming_asr.protocols.openai.realtime import OpenAITranslator
from streaming_asr.protocols.openai.vllm import VllmTranslator, is_vllm


class RealtimeTranslator:
    """Speaks OpenAI's dialects unless the client's first message is of vLLM's. `session.created`, which is sent before
    that message, is valid in both.

    Args:
        handshake: as `OpenAITranslator` takes it.
        defaults: the server's, for what the client does not set.
    """

    def __init__(self, handshake: Handshake, defaults: SessionOptions) -> None:
        self._named = any(name in ("intent", "model") for name, _ in handshake.query)
        self._defaults = defaults
        self._models = handshake.models
        self._translator: Translator = OpenAITranslator(handshake, defaults)
        self._is_first = True
        """Whether the next message is the client's first."""

    def connected(self) -> list[Command]:
        return self._translator.connected()

    def opened(self, opened: Opened) -> list[Command]:
        return self._translator.opened(opened)

    def received(self, message: str | bytes) -> list[Command]:
        first, self._is_first = self._is_first, False
        if first and is_vllm(message, named=self._named):
            self._translator = VllmTranslator(self._defaults, self._models)
            return [*self._translator.connected(), *self._translator.received(message)]
        return self._translator.received(message)

    def configured(self, options: SessionOptions) -> list[Command]:
        return self._translator.configured(options)

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return self._translator.on_events(events)

    def failed(self, failure: Failure) -> list[Command]:
        return self._translator.failed(failure)
