"""Which recognizer serves a model, found by the model's name or folder."""

from __future__ import annotations

from streaming_asr.recognizers.factory import RecognizerFactory
from streaming_asr.recognizers.vllm.factory import FACTORY as VLLM
from streaming_asr.recognizers.whisper.factory import FACTORY as WHISPER

FACTORIES: tuple[RecognizerFactory, ...] = (
    WHISPER,
    VLLM,
)
"""All recognizers. The first that serves a model gets it; vLLM is the last, as it takes every model."""


def factory_for(model: str | None, name: str | None = None) -> RecognizerFactory:
    """The recognizer called `name`, or without a name the first that serves `model`.

    Raises:
        ValueError: no recognizer has this name.
    """
    for factory in FACTORIES:
        if factory.name == name if name is not None else factory.serves(model):
            return factory
    raise ValueError(f"there is no recognizer {name!r}, only {', '.join(each.name for each in FACTORIES)}")
