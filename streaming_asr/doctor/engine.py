"""Starts a model under vLLM and checks the device with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from streaming_asr.core.recognizer import RecognizerUnavailable
from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer

Make = Callable[[str, Sequence[str]], VllmRecognizer]


def check_engine(model: str, options: Sequence[str], make: Make = VllmRecognizer) -> tuple[bool, list[str]]:
    """Start the engine, check the device, and stop.

    Args:
        model: folder or name of the weights.
        options: of vLLM's engine.

    Returns:
        Whether all works, and lines for people.
    """
    return asyncio.run(_check(make(model, options)))


async def _check(recognizer: VllmRecognizer) -> tuple[bool, list[str]]:
    try:
        await recognizer.start()
    except RecognizerUnavailable as error:
        return False, [f"Engine: it did not start: {error}"]
    try:
        lines = [f"Engine: {recognizer.capabilities.model} decodes on {recognizer.capabilities.device}."]
        verdict = recognizer.verdict
        if verdict is None:
            return True, [*lines, "Self-check: this model has none, or vLLM takes its audio only whole."]
        said = {True: "passed", False: "failed", None: "without a result"}[verdict.works]
        return verdict.works is not False, [*lines, f"Self-check {said}: {verdict.detail}."]
    finally:
        await recognizer.close()
