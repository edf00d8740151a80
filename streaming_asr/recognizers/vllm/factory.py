"""Offers models under vLLM on the command line."""

from __future__ import annotations

import argparse
import importlib.util

from streaming_asr.core.recognizer import EngineNotInstalled, Recognizer
from streaming_asr.recognizers.factory import RecognizerFactory

EXAMPLE = "Qwen/Qwen3-ASR-1.7B"


def serves(model: str | None) -> bool:
    """Whether a model may run under vLLM. Any may; its ``config.json``, which is read at the start, says more."""
    return model is not None


def create(options: argparse.Namespace) -> Recognizer:
    from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer

    if options.model is None:
        raise ValueError(f"vLLM needs a model, such as {EXAMPLE}")
    return VllmRecognizer(options.model, options.engine)


def engine_help(model: str | None) -> str:
    if importlib.util.find_spec("vllm") is None:
        raise EngineNotInstalled("vLLM", model or EXAMPLE)
    from streaming_asr.recognizers.vllm.options import engine_help

    return engine_help()


FACTORY = RecognizerFactory("vllm", serves, create, engine_help=engine_help)
