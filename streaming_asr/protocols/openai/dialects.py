"""`/v1/realtime`, where OpenAI's clients and vLLM's both connect: the first message tells them apart."""

from __future__ import annotations

from collections.abc import Sequence

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Command, Opened, Request, Translator
from streaming_asr.protocols.failures import Failure
from streaming_asr.protocols.openai.realtime import OpenAITranslator
from streaming_asr.protocols.openai.vllm import VllmTranslator, speaks_vllm


class RealtimeTranslator:
    """Speaks OpenAI's dialects until the client turns out to speak vLLM's. `session.created`, which comes before the
    client has said anything, serves both.

    Args:
        request: as `OpenAITranslator` takes it.
        defaults: the server's, for what the client does not say.
    """

    def __init__(self, request: Request, defaults: SessionOptions) -> None:
        self._named = any(name in ("intent", "model") for name, _ in request.query)
        self._defaults = defaults
        self._models = request.models
        self._speaker: Translator = OpenAITranslator(request, defaults)
        self._silent = True
        """Until the first message."""

    def connected(self) -> list[Command]:
        return self._speaker.connected()

    def opened(self, opened: Opened) -> list[Command]:
        return self._speaker.opened(opened)

    def received(self, message: str | bytes) -> list[Command]:
        first, self._silent = self._silent, False
        if first and speaks_vllm(message, named=self._named):
            self._speaker = VllmTranslator(self._defaults, self._models)
            return [*self._speaker.connected(), *self._speaker.received(message)]
        return self._speaker.received(message)

    def configured(self, options: SessionOptions) -> list[Command]:
        return self._speaker.configured(options)

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return self._speaker.on_events(events)

    def failed(self, failure: Failure) -> list[Command]:
        return self._speaker.failed(failure)
