"""vLLM's own engine options on our command line: every one is passed through."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from streaming_asr.recognizers.vllm.models.qwen3_asr import MAX_ITEMS

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "qwen3_asr": {
        # Frozen windows are found again in it.
        "enable_prefix_caching": True,
        "limit_mm_per_prompt": {"audio": MAX_ITEMS},
        # Audio comes as features.
        "enable_mm_embeds": True,
        # The names of the items are all that is looked up; a second cache would only hold copies.
        "mm_processor_cache_gb": 0,
        # It also sizes the encoder's cache.
        "max_num_batched_tokens": 16384,
        "scheduling_policy": "priority",
    },
    "whisper": {
        "mm_processor_cache_gb": 0,
        "scheduling_policy": "priority",
    },
}
"""What differs from vLLM's own defaults, by the checkpoint's ``model_type``. The user's options come first."""


CPU_BLOCK_SIZE = 32
"""Positions in a block of the key-value cache. vLLM's default for CPUs is 128, more than an encoder window has."""


def defaults_for(kind: str) -> dict[str, Any]:
    """What to put in place of vLLM's defaults for a ``model_type`` on the device that vLLM runs on here."""
    from vllm.platforms import current_platform

    defaults = dict(DEFAULTS[kind])
    if kind == "qwen3_asr" and current_platform.is_cpu():
        defaults["block_size"] = CPU_BLOCK_SIZE
    return defaults


def parse_engine_options(model: str, options: Sequence[str], defaults: Mapping[str, Any]) -> Any:
    """Make ``AsyncEngineArgs`` of options as ``vllm serve`` takes them.

    Args:
        options: ``["--tensor-parallel-size", "2", "--enforce-eager"]``.

    Raises:
        ValueError: vLLM has no such option, or not with such a value; the message is vLLM's.
    """
    from vllm import AsyncEngineArgs

    parser = _parser()
    parser.set_defaults(**defaults)
    arguments = parser.parse_args(list(options))
    arguments.model = model
    return AsyncEngineArgs.from_cli_args(arguments)


def engine_help() -> str:
    """vLLM's help on its engine options."""
    # Not by its own method, which shows an overview unless it was asked for one option or group.
    return argparse.ArgumentParser.format_help(_parser())


def _parser() -> Any:
    from vllm import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise ValueError(message)

    parser = Parser(prog="streaming-asr serve MODEL", add_help=False, allow_abbrev=False, usage="%(prog)s [options]")
    return AsyncEngineArgs.add_cli_args(parser)
