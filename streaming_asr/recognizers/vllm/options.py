"""vLLM's own engine options on our command line: every one is passed through."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


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


def refuse_unfit(arguments: Any) -> None:
    """Refuse engine options under which results would be wrong.

    Raises:
        ValueError: there is one; the message says which.
    """
    if (arguments.additional_config or {}).get("enable_reduce_sample"):
        raise ValueError(
            "vllm-ascend's enable_reduce_sample gives wrong log-probabilities, which confidences are made of; leave it "
            "out of --additional-config"
        )


def served_names(arguments: Any) -> tuple[str, ...]:
    """The names of vLLM's ``--served-model-name``, by which clients may ask for the model."""
    names = arguments.served_model_name or ()
    return (names,) if isinstance(names, str) else tuple(names)


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
