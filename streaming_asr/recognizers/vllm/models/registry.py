"""The models that can be run under vLLM, by the ``model_type`` of their checkpoint's ``config.json``.

A new model is a module here that declares a `MODEL_TYPE`, and a line below.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from streaming_asr.recognizers.vllm.models.base import ModelType

MODULES: Mapping[str, str] = {
    "qwen3_asr": "streaming_asr.recognizers.vllm.models.qwen3_asr",
    "whisper": "streaming_asr.recognizers.vllm.models.whisper",
}
"""Names of modules: they import torch and Transformers, which this file does not need."""


def model_type(name: str | None) -> ModelType:
    """The declaration of a model type.

    Raises:
        ValueError: it can't be run here; the message names those that can.
    """
    if name is None or name not in MODULES:
        found = "no model_type" if name is None else f"the model_type {name}"
        raise ValueError(f"its config.json gives {found}; those that run here are {' and '.join(MODULES)}")
    declared: ModelType = importlib.import_module(MODULES[name]).MODEL_TYPE
    return declared
