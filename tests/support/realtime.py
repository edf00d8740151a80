"""A conversation in OpenAI's realtime protocol or a dialect of it, without a socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streaming_asr.core import events
from streaming_asr.core.events import EndReason
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Handshake
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.openai.dialects import RealtimeTranslator
from tests.support.dialogue import Dialogue, sent_messages
from tests.support.fakes import CAPABILITIES

TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Talk(Dialogue):
    """A conversation whose session does all it is asked."""

    def __init__(
        self,
        *query: tuple[str, str],
        headers: Mapping[str, str] | None = None,
        session: Mapping[str, Any] | None = None,
        defaults: SessionOptions | None = None,
        path: str = "/v1/realtime",
    ) -> None:
        models = ModelNames(CAPABILITIES.model)
        request = Handshake(path, query, headers or {}, time=1000.0, session=session or {}, models=models)
        self.defaults = defaults or SessionOptions()
        super().__init__(self.make(request))
        self.created = self.greeting[0]

    def make(self, handshake: Handshake) -> Any:
        return RealtimeTranslator(handshake, self.defaults)

    def update(self, **audio_input: Any) -> dict[str, Any]:
        """`session.update`; returns the answer."""
        session = {"type": "transcription", "audio": {"input": audio_input}}
        return sent_messages(self.send("session.update", session=session))[-1]

    def speak(self, text: str, utterance: int = 1, **final: Any) -> list[dict[str, Any]]:
        """An utterance from its onset to its final."""
        return self.report(
            events.SpeechStarted(utterance, 0, 100),
            events.SpeechEnded(utterance, 0, 100, 1100, EndReason.ENDPOINT),
            events.Final(utterance, 0, text, "en", 100, 1100, 0.9, None, **final),
        )
